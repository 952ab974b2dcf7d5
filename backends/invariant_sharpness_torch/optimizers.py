"""The states of ``torch.optim``: what an optimizer makes of the gradients of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.adapters.optimizers import OptimizerState, no_step_yet, unknown_optimizer
from invariant_sharpness.errors import ModelError
from invariant_sharpness_torch.oracle import TorchOracle

Settings = Mapping[str, Any]


def read_optimizer(oracle: object, optimizer: torch.optim.Optimizer) -> OptimizerState:
    """Read the preconditioner of Adam, AdamW, RMSprop or SGD.

    Raises
    ------
    ModelError
        If it is another optimizer, trains none of the oracle's parameters or in several ways, or has not taken a step.
    """
    if not isinstance(oracle, TorchOracle):
        raise foreign_oracle(oracle, "PyTorch")
    trained = _trained(oracle.model, optimizer)
    settings = next(iter(trained.values()))[1]
    for kind, read in _READERS.items():
        if isinstance(optimizer, kind):
            return read(optimizer, trained, settings)
    raise unknown_optimizer(type(optimizer).__name__)


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[nn.Parameter, Settings]]:
    """The parameters of the model that are trained, with the settings of their groups, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    pairs = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    trained: dict[str, tuple[nn.Parameter, Settings]] = {
        names[id(parameter)]: (parameter, group) for parameter, group in pairs if id(parameter) in names
    }
    if not trained:
        msg = (
            "the optimizer trains no parameter of the oracle's model: make the oracle of the very model that is trained, without dtype=, "
            "which measures a copy"
        )
        raise ModelError(msg)
    for word in ("betas", "momentum", "nesterov", "dampening", "eps", "amsgrad", "centered", "weight_decay"):
        if len({repr(group.get(word)) for _, group in trained.values()}) > 1:
            msg = f"the optimizer has parameter groups with several values of {word}, and one preconditioner has one: measure each by Restricted"
            raise ModelError(msg)
    return trained


def _adam(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, tuple[nn.Parameter, Settings]], settings: Settings
) -> OptimizerState:
    states = _states(optimizer, trained, "exp_avg_sq")
    beta1, beta2 = (float(beta) for beta in settings["betas"])
    step = max(float(state["step"]) for state in states.values())
    key = "max_exp_avg_sq" if settings["amsgrad"] else "exp_avg_sq"
    decay = float(settings["weight_decay"])
    decoupled = isinstance(optimizer, torch.optim.AdamW) or bool(settings.get("decoupled_weight_decay"))
    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates=_rates(trained),
        mean_squares={name: _host(state[key]) / (1 - beta2**step) for name, state in states.items()},
        epsilon=float(settings["eps"]),
        correction=1 - beta1**step,
        momentum=beta1,
        form="average",
        decoupled_decay=decay if decoupled else 0.0,
        coupled_decay=0.0 if decoupled else decay,
    )


def _rmsprop(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, tuple[nn.Parameter, Settings]], settings: Settings
) -> OptimizerState:
    states = _states(optimizer, trained, "square_avg")
    squares = {
        name: _host(state["square_avg"]) - (_host(state["grad_avg"]) ** 2 if settings["centered"] else 0.0)
        for name, state in states.items()
    }
    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates=_rates(trained),
        mean_squares=squares,
        epsilon=float(settings["eps"]),
        momentum=float(settings["momentum"]),
        coupled_decay=float(settings["weight_decay"]),
    )


def _sgd(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, tuple[nn.Parameter, Settings]], settings: Settings
) -> OptimizerState:
    """Dampening multiplies every gradient but the first, as a smaller learning rate does."""
    damped = 1 - float(settings["dampening"])
    return OptimizerState(
        name=type(optimizer).__name__,
        learning_rates={name: rate * damped for name, rate in _rates(trained).items()},
        momentum=float(settings["momentum"]),
        form="nesterov" if settings["nesterov"] else "heavy ball",
        coupled_decay=float(settings["weight_decay"]),
    )


_READERS = {torch.optim.Adam: _adam, torch.optim.AdamW: _adam, torch.optim.RMSprop: _rmsprop, torch.optim.SGD: _sgd}


def _states(
    optimizer: torch.optim.Optimizer, trained: Mapping[str, tuple[nn.Parameter, Settings]], key: str
) -> dict[str, Any]:
    states = {name: optimizer.state.get(parameter, {}) for name, (parameter, _) in trained.items()}
    for name, state in states.items():
        if key not in state:
            raise no_step_yet(type(optimizer).__name__, name)
    return states


def _rates(trained: Mapping[str, tuple[nn.Parameter, Settings]]) -> dict[str, float]:
    return {name: float(group["lr"]) for name, (_, group) in trained.items()}


def _host(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    return tensor.detach().to("cpu", torch.float64).numpy().copy()
