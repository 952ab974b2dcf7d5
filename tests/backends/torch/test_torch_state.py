"""Measuring leaves no trace: the model, its gradients and all random states are bit-identical afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness_torch.holding import random_state
from zoo.model_trace import Trace, assert_untouched

CALLS = (1, 2, 3, 5, 8, 13, 21)
CAPABILITIES = (
    "loss",
    "gradient",
    "hessian_vector_product",
    "gauss_newton_diagonal",
    "gradient_second_moment",
    "directional_second_moment",
    "output_curvature",
)


class Stateful(nn.Module):
    """A network whose forward pass counts in a buffer, fills an empty one, draws numbers and moves a tensor attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", None)
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        torch.rand(1), np.random.rand(1), random.random()  # noqa: NPY002
        self.cache = x.detach().clone()
        self.last = self.body.weight * 1
        self.norm.running_mean.add_(0.0).mul_(1.0)
        return self.head(torch.relu(self.norm(self.body(x))))


def stateful() -> nn.Module:
    """A model with gradients, frozen parameters, hooks and modules of both modes."""
    torch.manual_seed(0)
    model = Stateful().double().eval()
    model.head.train()
    model.head.bias.requires_grad_(requires_grad=False)
    model.body.weight.grad = torch.ones_like(model.body.weight)
    model.norm.weight.register_hook(lambda gradient: 2 * gradient)
    model.body.register_forward_hook(lambda *_: None)
    return model


def data(examples: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(examples, 4, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 3, (examples,), generator=generator)


def test_measuring_changes_nothing() -> None:
    model = stateful()
    trace = Trace(model)
    ish.measure(ish.oracle(model, data(), batch_size=5))
    assert_untouched(trace)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_measuring_elsewhere_changes_nothing(capability: str) -> None:
    model = stateful()
    trace = Trace(model)
    oracle = ish.oracle(model, data(), batch_size=5)
    point = 2.0 * oracle.parameters
    kept = {name: array.clone() for name, array in point.arrays.items()}
    call(oracle, capability, point)
    assert_untouched(trace)
    assert all(torch.equal(kept[name], array) for name, array in point.arrays.items()), "the given point was changed"


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_equal_arguments_give_equal_results(capability: str) -> None:
    loader = DataLoader(TensorDataset(*data()), batch_size=5, shuffle=True)
    oracle = ish.oracle(stateful(), loader)
    first, second = (flat(call(oracle, capability, oracle.parameters)) for _ in range(2))
    assert torch.equal(first, second), f"two calls differ by {float((first - second).abs().max()):.1e}"


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_interrupt_in_the_forward_pass_leaves_no_trace(capability: str, k: int) -> None:
    model = stateful()
    oracle = ish.oracle(model, data(), batch_size=5)
    raiser = Raiser(KeyboardInterrupt(), k)
    model.head.register_forward_pre_hook(lambda *_: raiser())
    trace = Trace(model)
    with pytest.raises(KeyboardInterrupt):
        repeat(oracle, capability, k)
    assert_untouched(trace)


@pytest.mark.parametrize("k", CALLS)
def test_interrupt_while_measuring_leaves_no_trace(k: int) -> None:
    model = stateful()
    raiser = Raiser(KeyboardInterrupt(), k)
    model.head.register_forward_hook(lambda *_: raiser())
    trace = Trace(model)
    with pytest.raises(KeyboardInterrupt):
        ish.measure(ish.oracle(model, data(), batch_size=5))
    assert_untouched(trace)


@pytest.mark.parametrize("where", ["forward", "loss", "data"])
def test_error_leaves_no_trace(where: str) -> None:
    raiser = Raiser(FloatingPointError("as planned"), 9)
    places: dict[str, Callable[[], None]] = {where: raiser}
    nothing = Raiser(FloatingPointError(), 10**9)
    model = stateful()
    model.body.register_forward_hook(lambda *_: places.get("forward", nothing)())

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        places.get("loss", nothing)()
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    class Examples(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            places.get("data", nothing)()
            torch.rand(1)
            return super().__getitem__(index)

    trace = Trace(model)
    with pytest.raises(FloatingPointError, match="as planned"):
        ish.measure(ish.oracle(model, DataLoader(Examples(*data()), batch_size=6, shuffle=True), loss=loss))
    assert_untouched(trace)


def test_error_at_the_third_forward_pass_leaves_no_trace() -> None:
    model = stateful()
    raiser = Raiser(ZeroDivisionError("as planned"), 3)
    model.body.register_forward_pre_hook(lambda *_: raiser())
    trace = Trace(model)
    with pytest.raises((ZeroDivisionError, ish.InvariantSharpnessError), match="as planned"):
        ish.measure(ish.oracle(model, data(), batch_size=5))
    assert_untouched(trace)


@pytest.mark.parametrize("place", ["loader", "sampler", "batch_sampler"])
def test_generator_of_a_loader_is_left_as_it_was(place: str) -> None:
    generator = torch.Generator().manual_seed(7)
    examples = TensorDataset(*data())
    sampler = torch.utils.data.RandomSampler(examples, generator=generator)
    loader = {
        "loader": lambda: DataLoader(examples, batch_size=5, shuffle=True, generator=generator),
        "sampler": lambda: DataLoader(examples, batch_size=5, sampler=sampler),
        "batch_sampler": lambda: DataLoader(
            examples, batch_sampler=torch.utils.data.BatchSampler(sampler, 5, drop_last=False)
        ),
    }[place]()
    model = stateful()
    trace = Trace(model, (generator,))
    ish.measure(ish.oracle(model, loader))
    assert_untouched(trace)


def test_weights_that_the_forward_pass_clips_are_left_as_they_were() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, max_norm=0.1), nn.Flatten(), nn.Linear(12, 3)).double()
    x, y = torch.randint(0, 5, (6, 3)), torch.randint(0, 3, (6,))
    trace = Trace(model)
    with pytest.raises(ish.InvariantSharpnessError, match="rows of a larger norm than max_norm"):
        ish.oracle(model, (x, y))
    assert_untouched(trace)


def test_measuring_works_without_gradient_mode_and_leaves_it_off() -> None:
    model = stateful()
    expected = ish.hessian_trace(ish.oracle(model, data())).value
    with torch.no_grad():
        trace = Trace(model)
        assert ish.hessian_trace(ish.oracle(model, data())).value == expected
        assert_untouched(trace)


def test_measuring_within_inference_mode_is_refused() -> None:
    oracle = ish.oracle(stateful(), data())
    with torch.inference_mode(), pytest.raises(ish.InvariantSharpnessError, match=r"inference_mode.*leave"):
        oracle.gradient(oracle.parameters)


class Raiser:
    """Raises an error at the k-th call."""

    def __init__(self, error: BaseException, k: int) -> None:
        self.error = error
        self.left = k

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


def call(oracle: Any, capability: str, point: ish.ParameterVector) -> Any:
    """Call a method of the oracle with arguments that fit."""
    arguments: dict[str, tuple[Any, ...]] = {
        "hessian_vector_product": (oracle.parameters,),
        "directional_second_moment": (oracle.parameters,),
        "gauss_newton_diagonal": (frozenset(group.name for group in oracle.groups),),
        "output_curvature": (oracle.parameters, 0),
    }
    return getattr(oracle, capability)(point, *arguments.get(capability, ()))


def repeat(oracle: Any, capability: str, times: int) -> None:
    for _ in range(times):
        call(oracle, capability, 2.0 * oracle.parameters)


def flat(result: Any) -> torch.Tensor:
    if isinstance(result, float):
        return torch.tensor([result])
    vectors = result if isinstance(result, tuple) else (result,)
    return torch.cat([array.reshape(-1) for vector in vectors for array in vector.arrays.values()])


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_random_states_of_accelerators_are_fixed_and_restored(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of the CPU stand in for those of a device that is not there."""
    devices = [torch.Generator() for _ in range(1 if kind == "mps" else 2)]
    if kind == "mps":
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: devices[0])
    else:
        module = getattr(torch, kind)
        monkeypatch.setattr(module, "is_initialized", lambda: True)
        monkeypatch.setattr(module, "default_generators", tuple(devices))
    fixed = [number(torch.Generator().manual_seed(7))] * len(devices)
    for generator in devices:
        generator.manual_seed(1)
    expected = [number(torch.Generator().manual_seed(1))] * len(devices)
    drawn: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_pass(devices, drawn)
    after = [number(generator) for generator in devices]
    assert drawn == fixed, f"within the pass {kind} draws {drawn} instead of {fixed}"
    assert after == expected, f"afterwards {kind} draws {after} instead of {expected}"


def interrupted_pass(devices: list[torch.Generator], drawn: list[float]) -> None:
    with random_state(7, ()):
        drawn += [number(generator) for generator in devices]
        raise KeyboardInterrupt


def number(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
