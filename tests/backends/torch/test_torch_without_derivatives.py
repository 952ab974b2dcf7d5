"""Losses that cannot be differentiated twice, and outputs that are no real numbers, are refused when the oracle is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError, ModelError
from zoo.model_trace import Trace, assert_untouched
from zoo.wrapped_networks import Around, inputs, network, targets, values


def without_graph(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return (outputs - targets).square().sum(dim=1)


def ctc(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    steps = outputs.reshape(len(outputs), 5, -1).log_softmax(-1).transpose(0, 1)
    lengths = torch.full((len(outputs),), 5), torch.full((len(outputs),), 2)
    return nn.functional.ctc_loss(steps, labels[:, :2].abs().ceil().clamp(1, 3).long(), *lengths, reduction="none")


class Once(torch.autograd.Function):
    """A square whose derivative cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(z)
        return z**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangents: torch.Tensor) -> torch.Tensor:
        (z,) = ctx.saved_tensors
        return 2 * z * cotangents


UNDERIVED: dict[str, tuple[Any, str]] = {
    "constant": (lambda z, _: torch.ones(len(z), dtype=z.dtype), "does not depend on the outputs.*detach"),
    "detached": (lambda z, y: (z.detach() - y).square().sum(dim=1), "does not depend on the outputs.*detach"),
    "no_grad": (without_graph, "does not depend on the outputs.*detach"),
    "numbers": (
        lambda z, _: torch.tensor([row.detach().sum().item() for row in z]),
        "does not depend on the outputs.*item",
    ),
    "argmax": (lambda z, y: (z.argmax(1) != y.argmax(1)).double(), "does not depend on the outputs"),
    "CTC": (ctc, r"'ctc' has no second derivative in torch.*ctc_loss_backward.*logsumexp"),
    "once differentiable": (lambda z, _: Once.apply(z).sum(dim=1), "has no second derivative in torch"),
}


@pytest.mark.parametrize("what", UNDERIVED)
def test_loss_without_derivatives_is_refused_when_the_oracle_is_built(what: str) -> None:
    loss, words = UNDERIVED[what]
    model = nn.Sequential(network(), nn.Linear(5, 20).double()) if what == "CTC" else network()
    trace = Trace(model)
    with pytest.raises(LossError, match=words):
        ish.oracle(model, (inputs(), targets()), loss)
    assert_untouched(trace)


@pytest.mark.parametrize("loss", [lambda z, _: z.sum(dim=1), lambda z, y: (z - y).abs().sum(dim=1)])
def test_loss_whose_second_derivative_is_zero_is_measured(loss: Any) -> None:
    assert values(network(), loss)["hessian_spectral_norm"] > 0


OUTPUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "complex": torch.fft.fft,
    "integers": lambda z: z.argmax(dim=1, keepdim=True),
    "booleans": lambda z: z > 0,
}


@pytest.mark.parametrize("what", OUTPUTS)
@pytest.mark.parametrize("loss", ["mse", lambda z, _: z.abs().sum(dim=1)])
def test_outputs_that_are_no_real_numbers_are_refused(what: str, loss: Any) -> None:
    model = Around(lambda body, x: OUTPUTS[what](body(x)), network())
    with pytest.raises(ModelError, match=r"outputs of dtype torch\.\w+, but curvature needs real floating-point"):
        ish.oracle(model, (inputs(), targets()), loss)
