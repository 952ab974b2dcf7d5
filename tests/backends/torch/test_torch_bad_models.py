"""Whatever is wrong with a model is named, with what to do about it, and the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError, ModelError, NonFiniteError
from zoo.model_trace import Trace, assert_untouched
from zoo.torch_networks import GOOD, network

NAN, INFINITY = float("nan"), float("inf")


def with_parameter(name: str, parameter: nn.Parameter) -> nn.Module:
    model = network()
    model.register_parameter(name, parameter)
    return model


def with_weight(index: Any, value: float) -> nn.Module:
    model = network()
    with torch.no_grad():
        model[2].weight[index] = value
    return model


class Passing(nn.Module):
    """A network followed by a function."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.body = network()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.body(x))


def training(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), *layers, nn.Linear(6, 3)).train()


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return network()


def old_weight_norm() -> nn.Module:
    model = network()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model[2])
    return model


def new_weight_norm() -> nn.Module:
    model = network()
    nn.utils.parametrizations.weight_norm(model[2])
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], type[Exception], str]] = {
    "NaN weight": (lambda: with_weight((0, 0), NAN), NonFiniteError, r"'2.weight' has 1 entries.*checkpoint"),
    "infinite weight": (lambda: with_weight(0, INFINITY), NonFiniteError, r"'2.weight' has 7 entries"),
    "overflow": (
        lambda: Passing(lambda z: z / 0),
        NonFiniteError,
        r"outputs of batch 0 are NaN or infinite.*overflow.*division",
    ),
    "dropout": (lambda: training(nn.Dropout(0.1)), ModelError, r"'1' \(Dropout\).*model.eval\(\)"),
    "batch norm": (lambda: training(nn.BatchNorm1d(6)), ModelError, r"'1' \(BatchNorm1d\).*model.eval\(\)"),
    "dropout of an LSTM": (
        lambda: nn.Sequential(nn.LSTM(5, 3, num_layers=2, dropout=0.5)),
        ModelError,
        r"'0' \(LSTM\).*model.eval\(\)",
    ),
    "functional dropout": (lambda: Passing(functional.dropout), ModelError, r"random.*dropout.*deterministic"),
    "statistics of the batch": (
        lambda: training(nn.BatchNorm1d(6, track_running_stats=False)).eval(),
        ModelError,
        r"'1'.*track_running_stats",
    ),
    "weight norm by hooks": (old_weight_norm, ModelError, r"'2' use weight_norm.*remove_weight_norm"),
    "weight norm": (new_weight_norm, ModelError, r"'2.parametrizations.weight' use weight_norm.*remove_param"),
    "integer parameter": (
        lambda: with_parameter("steps", nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)),
        ModelError,
        r"'steps' has dtype torch.int64.*buffers",
    ),
    "complex parameter": (
        lambda: with_parameter("phase", nn.Parameter(torch.zeros(2, dtype=torch.complex64))),
        ModelError,
        r"'phase' has dtype torch.complex64.*real and imaginary",
    ),
    "eight bits": (
        lambda: network().to(torch.float8_e4m3fn),
        ModelError,
        r"'0.weight' has dtype torch.float8_e4m3fn: pass dtype=\"float32\"",
    ),
    "all frozen": (
        lambda: network().requires_grad_(requires_grad=False),
        ModelError,
        r"nothing to measure.*requires_grad_",
    ),
    "no parameters": (nn.ReLU, ModelError, r"nothing to measure"),
    "meta device": (lambda: network().to("meta"), ModelError, r"'0.weight' is on the meta device.*load_state_dict"),
    "inference mode": (in_inference_mode, ModelError, r"'0.weight' .*made in inference mode: make the model outside"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), ModelError, r"'0.weight' of a lazy.*call model\(inputs\)"),
    "tuple of outputs": (lambda: Passing(lambda z: (z, z)), LossError, r"returned a tuple.*pass forward="),
    "no axis of examples": (
        lambda: Passing(torch.sum),
        ModelError,
        r"shape \(\) for the 8 examples of batch 0.*first axis",
    ),
    "outputs of half of the examples": (lambda: Passing(lambda z: z[:4]), ModelError, r"\(4, 3\) for the 8 examples"),
    "no axis of classes": (lambda: Passing(lambda z: z[:, 0]), LossError, r"batch 0: .*\(8,\).*one row of outputs"),
    "sparse embedding": (
        lambda: nn.Sequential(nn.Embedding(5, 3, sparse=True)),
        ModelError,
        r"'0'.*sparse=True.*set both",
    ),
}


@pytest.mark.parametrize("what", MODELS)
def test_bad_model_is_named(what: str) -> None:
    build, error, words = MODELS[what]
    model = build()
    trace = None if what in ("meta device", "inference mode", "lazy", "NaN weight") else Trace(model)
    with pytest.raises(error, match=words):
        ish.oracle(model, GOOD)
    if trace is not None:
        assert_untouched(trace)


def test_model_that_went_back_to_training_mode_is_noticed() -> None:
    model = training(nn.BatchNorm1d(6)).eval()
    oracle = ish.oracle(model, GOOD)
    model.train()
    with pytest.raises(ModelError, match=r"'1' \(BatchNorm1d\).*model.eval"):
        ish.hessian_trace(oracle)
