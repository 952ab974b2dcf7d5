"""The states of optimizers of PyTorch and Optax against optimizers that are written out in NumPy."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, ModelError
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo import optimizer_references as reference
from zoo.optimizer_references import BETA1, BETA2, DECAY, EPSILON, MOMENTUM, RATE, STEPS

SIZES, EXAMPLES = (4, 6, 3), 30
KINDS = ("adam", "rmsprop", "sgd")
torch_only = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
jax_only = pytest.mark.skipif(find_spec("optax") is None, reason="optax is not installed")


@cache
def network() -> ReluNetwork:
    random = np.random.default_rng(1)
    weights = [random.normal(size=(outputs, inputs)) for inputs, outputs in pairwise(SIZES)]
    return ReluNetwork(tuple(weights), tuple(random.normal(size=outputs) for outputs in SIZES[1:]))


@cache
def data() -> tuple[Any, Any]:
    random = np.random.default_rng(8)
    return random.normal(size=(EXAMPLES, SIZES[0])), random.integers(0, SIZES[-1], EXAMPLES)


@cache
def expected(kind: str) -> float:
    return reference.reference_value(NetworkOracle(network(), *data()), kind)


def torch_model() -> Any:
    import torch
    from torch import nn

    layers = [nn.Linear(inputs, outputs, dtype=torch.float64) for inputs, outputs in pairwise(SIZES)]
    with torch.no_grad():
        for layer, weight, bias in zip(layers, network().weights, network().biases or (), strict=True):
            layer.weight.copy_(torch.tensor(weight.tolist(), dtype=torch.float64))
            layer.bias.copy_(torch.tensor(bias.tolist(), dtype=torch.float64))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def torch_optimizer(kind: str, parameters: Any) -> Any:
    import torch

    if kind == "adam":
        return torch.optim.Adam(parameters, RATE, (BETA1, BETA2), eps=EPSILON)
    if kind == "rmsprop":
        return torch.optim.RMSprop(parameters, RATE, DECAY, eps=EPSILON, momentum=MOMENTUM)
    return torch.optim.SGD(parameters, RATE, MOMENTUM, nesterov=True)


def trained_in_torch(optimizer: Any, model: Any, steps: int = STEPS) -> ish.CurvatureOracle:
    import torch

    x, y = (torch.from_numpy(part) for part in data())
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return ish.oracle(model, data())


def with_jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def apply(parameters: Any, x: Any) -> Any:
    import jax

    first, last = parameters
    return jax.nn.relu(x @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]


SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"learning_rate": RATE, "b1": BETA1, "b2": BETA2, "eps": EPSILON},
    "rmsprop": {"learning_rate": RATE, "decay": DECAY, "eps": EPSILON, "eps_in_sqrt": False, "momentum": MOMENTUM},
    "sgd": {"learning_rate": RATE, "momentum": MOMENTUM, "nesterov": True},
}


def trained_in_jax(transformation: Any, steps: int = STEPS) -> tuple[ish.CurvatureOracle, Any]:
    jax = with_jax()
    import optax

    x, y = data()
    parameters = [{"kernel": W.T, "bias": b} for W, b in zip(network().weights, network().biases or (), strict=True)]
    gradient = jax.grad(lambda p: optax.losses.softmax_cross_entropy_with_integer_labels(apply(p, x), y).mean())
    state = transformation.init(parameters)
    for _ in range(steps):
        updates, state = transformation.update(gradient(parameters), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return ish.oracle(apply, data(), parameters=parameters), state


def assert_reference(kind: str, found: ish.Estimate, threshold: float) -> None:
    error = abs(found.value / expected(kind) - 1)
    assert error <= 1e-9, f"{kind} has {found.value!r}, by NumPy {expected(kind)!r} ({error:.1e})"
    assert threshold == pytest.approx(reference.THRESHOLDS[kind], rel=1e-12)


@torch_only
@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_of_torch(kind: str) -> None:
    model = torch_model()
    optimizer = torch_optimizer(kind, model.parameters())
    oracle = trained_in_torch(optimizer, model)
    state = ish.optimizer_state(oracle, optimizer)
    found = ish.preconditioned_sharpness(oracle, optimizer=optimizer, tolerance=1e-8)
    assert_reference(kind, found, state.threshold)
    assert found.notes[0].startswith(f"threshold {state.threshold:.6g}, of which the value is "), found.notes


@jax_only
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("injected", [False, True])
def test_states_of_optax(kind: str, injected: bool) -> None:
    with_jax()
    import optax

    function, settings = getattr(optax, kind), SETTINGS[kind]
    if injected:
        words = [name for name in ("eps_in_sqrt", "nesterov") if name in settings]
        oracle, optimizer = trained_in_jax(optax.inject_hyperparams(function, static_args=words)(**settings))
        state = ish.optimizer_state(oracle, optimizer, **{word: settings[word] for word in words})
    else:
        oracle, optimizer = trained_in_jax(function(**settings))
        state = ish.optimizer_state(oracle, optimizer, **settings)
    assert_reference(kind, ish.preconditioned_sharpness(oracle, optimizer=state, tolerance=1e-8), state.threshold)


@torch_only
def test_decay_is_decoupled_in_adamw_and_in_the_gradient_of_adam() -> None:
    import torch

    read = {}
    for kind in (torch.optim.AdamW, torch.optim.Adam):
        model = torch_model()
        optimizer = kind(model.parameters(), RATE, weight_decay=0.5)
        read[kind.__name__] = ish.optimizer_state(trained_in_torch(optimizer, model), optimizer)
    assert (read["AdamW"].decoupled_decay, read["AdamW"].coupled_decay) == (0.5, 0.0)
    assert (read["Adam"].decoupled_decay, read["Adam"].coupled_decay) == (0.0, 0.5)
    assert read["AdamW"].threshold == pytest.approx(38 / RATE * (1 - RATE * 0.5 / 2))
    found = ish.preconditioned_sharpness(NetworkOracle(network(), *data()), optimizer=same_names(read["Adam"]))
    assert "adds 0.5 times the parameters to the gradient" in found.notes[1], found.notes


def same_names(state: ish.OptimizerState) -> ish.OptimizerState:
    """The settings alone, for the groups of the NumPy network."""
    names = [group.name for group in NetworkOracle(network(), *data()).groups]
    return ish.OptimizerState(state.name, dict.fromkeys(names, RATE), coupled_decay=state.coupled_decay)


@torch_only
@pytest.mark.parametrize("settings", [{"dampening": 0.25}, {}])
def test_dampening_is_a_smaller_learning_rate(settings: dict[str, float]) -> None:
    import torch

    model = torch_model()
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM, **settings)
    state = ish.optimizer_state(ish.oracle(model, data()), optimizer)
    assert state.threshold == pytest.approx((2 + 2 * MOMENTUM) / ((1 - settings.get("dampening", 0)) * RATE))


@torch_only
def test_layers_with_other_learning_rates_have_other_units() -> None:
    import torch

    model = torch_model()
    groups = [{"params": model[0].parameters(), "lr": 0.4}, {"params": model[2].parameters(), "lr": 0.1}]
    oracle = ish.oracle(model, data())
    state = ish.optimizer_state(oracle, torch.optim.SGD(groups))
    arrays = oracle.to_numpy(state.scale(oracle))
    assert {name: float(array.flat[0]) for name, array in arrays.items()} == {
        "0.weight": 1.0,
        "0.bias": 1.0,
        "2.weight": 0.5,
        "2.bias": 0.5,
    }
    assert state.threshold == pytest.approx(2 / 0.4)


@torch_only
def test_restricted_oracle_takes_its_own_groups() -> None:
    import torch

    model = torch_model()
    optimizer = torch.optim.Adam(model[2].parameters(), RATE, eps=EPSILON)
    oracle = trained_in_torch(optimizer, model)
    with pytest.raises(ModelError, match=r"Adam does not train 0\.weight, 0\.bias, .*\.Restricted"):
        ish.preconditioned_sharpness(oracle, optimizer=optimizer)
    assert ish.preconditioned_sharpness(ish.Restricted(oracle, "2.*"), optimizer=optimizer).value > 0


@torch_only
def test_optimizers_of_torch_that_cannot_be_read_say_why() -> None:
    import torch

    model = torch_model()
    oracle = ish.oracle(model, data())
    fresh, other = torch.optim.Adam(model.parameters()), torch.optim.Adagrad(model.parameters())
    elsewhere = torch.optim.SGD(torch_model().parameters())
    for optimizer, message in (
        (fresh, "take a step before it is read"),
        (other, "the preconditioner of Adagrad is not known"),
        (elsewhere, "trains no parameter of the oracle's model"),
    ):
        with pytest.raises(ModelError, match=message):
            ish.optimizer_state(oracle, optimizer)
    with pytest.raises(ModelError, match="measured on a NetworkOracle"):
        ish.optimizer_state(NetworkOracle(network(), *data()), fresh)
    with pytest.raises(ArgumentError, match="lr: the optimizer knows its own"):
        ish.optimizer_state(oracle, fresh, lr=1.0)
    several = torch.optim.SGD([{"params": model[0].parameters(), "momentum": 0.5}, {"params": model[2].parameters()}])
    with pytest.raises(ModelError, match="several values of momentum"):
        ish.optimizer_state(oracle, several)


@jax_only
def test_states_of_optax_that_cannot_be_read_say_why() -> None:
    with_jax()
    import optax

    oracle, state = trained_in_jax(optax.adam(RATE), steps=1)
    with pytest.raises(ArgumentError, match="Optax keeps no hyperparameters"):
        ish.optimizer_state(oracle, state)
    with pytest.raises(ArgumentError, match=r"optax\.adam has no beta1"):
        ish.optimizer_state(oracle, state, learning_rate=RATE, beta1=0.5)
    with pytest.raises(ModelError, match="before the first step"):
        ish.optimizer_state(oracle, optax.adam(RATE).init(oracle.to_tree(oracle.parameters)), learning_rate=RATE)
    with pytest.raises(ModelError, match="the state has a ScaleByLionState"):
        ish.optimizer_state(oracle, optax.lion(RATE).init([{"w": np.ones(2)}]), learning_rate=RATE)
    other = optax.adam(RATE)
    _, moved = other.update([{"w": np.ones(2)}], other.init([{"w": np.ones(2)}]))
    with pytest.raises(ModelError, match="the state is that of other parameters"):
        ish.optimizer_state(oracle, moved, learning_rate=RATE)
    _, with_momentum = trained_in_jax(optax.sgd(RATE, 0.5), steps=1)
    with pytest.raises(ArgumentError, match="the state has momentum"):
        ish.optimizer_state(oracle, with_momentum, learning_rate=RATE)


def test_thing_that_is_no_optimizer_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no backend reads an optimizer of type builtins\.str"):
        ish.optimizer_state(NetworkOracle(network(), *data()), "Adam")
