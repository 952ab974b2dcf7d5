"""Every form of data gives the same numbers, and uneven batches give those of one batch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import invariant_sharpness as ish
from zoo.invariant_metrics import USUAL
from zoo.torch_networks import multilayer_perceptron


class Keywords(nn.Module):
    """A model in the manner of a transformer: keywords in, an object with logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = multilayer_perceptron()

    def forward(self, *, features: torch.Tensor, shift: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.body(features + shift), extra=None)


class TwoInputs(nn.Module):
    """A model of two positional inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = multilayer_perceptron()

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.body(first + second)


class Pair(NamedTuple):
    features: torch.Tensor
    label: torch.Tensor


class Rows(Dataset):
    """A map-style data set that computes its examples."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.x[index], self.y[index]


class Stream(IterableDataset):
    """A stream that starts anew whenever it is iterated over."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.x, self.y = x, y

    def __iter__(self) -> Any:
        return iter(zip(self.x, self.y, strict=True))


def problem(examples: int = 50) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = multilayer_perceptron().double()
    return model, torch.randn(examples, 5, dtype=torch.float64), torch.randint(0, 3, (examples,))


def values(oracle: ish.CurvatureOracle, metrics: list[str] | None = None) -> dict[str, float]:
    report = ish.measure(oracle, metrics)
    return {name: estimate.value for name, estimate in report.estimates.items()} | {"loss": report.loss}


def assert_equal(found: dict[str, float], expected: dict[str, float], tolerance: float = 1e-12) -> None:
    for name, value in expected.items():
        error = abs(found[name] - value) / abs(value)
        assert error <= tolerance, f"{name} is {found[name]!r} instead of {value!r}: relative error {error:.1e}"


def keyword_model(model: nn.Module) -> Keywords:
    wrapper = Keywords().double()
    wrapper.body = model
    return wrapper


def two_inputs(model: nn.Module) -> TwoInputs:
    wrapper = TwoInputs().double()
    wrapper.body = model
    return wrapper


def keyword_batch(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"features": x - 1, "shift": torch.ones_like(x), "labels": y}


def named_forward(model: nn.Module, batch: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    return model(batch.features), batch.label


FORMS: dict[str, Callable[[nn.Module, torch.Tensor, torch.Tensor], ish.CurvatureOracle]] = {
    "NumPy arrays": lambda m, x, y: ish.oracle(m, (x.numpy(), y.numpy())),
    "list of the two": lambda m, x, y: ish.oracle(m, [x, y]),
    "int32 labels": lambda m, x, y: ish.oracle(m, (x, y.int())),
    "list of batches": lambda m, x, y: ish.oracle(m, [(x[:20], y[:20]), (x[20:], y[20:])]),
    "list of lists": lambda m, x, y: ish.oracle(m, [[x[:20], y[:20]], [x[20:], y[20:]]]),
    "loader": lambda m, x, y: ish.oracle(m, DataLoader(TensorDataset(x, y), batch_size=16)),
    "shuffled loader": lambda m, x, y: ish.oracle(m, DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)),
    "loader of a computed data set": lambda m, x, y: ish.oracle(m, DataLoader(Rows(x, y), batch_size=7)),
    "loader of a stream": lambda m, x, y: ish.oracle(m, DataLoader(Stream(x, y), batch_size=7)),
    "one dictionary": lambda m, x, y: ish.oracle(keyword_model(m), keyword_batch(x, y)),
    "dictionaries": lambda m, x, y: ish.oracle(
        keyword_model(m), [keyword_batch(x[:9], y[:9]), keyword_batch(x[9:], y[9:])]
    ),
    "dictionary and labels": lambda m, x, y: ish.oracle(
        keyword_model(m), ({"features": x - 1, "shift": torch.ones_like(x)}, y), batch_size=16
    ),
    "tuple of inputs": lambda m, x, y: ish.oracle(two_inputs(m), ((x - 1, torch.ones_like(x)), y), batch_size=16),
    "own forward pass": lambda m, x, y: ish.oracle(m, [(y, x)], forward=lambda model, b: (model(b[1]), b[0])),
    "named tuples": lambda m, x, y: ish.oracle(m, [Pair(x[:9], y[:9]), Pair(x[9:], y[9:])], forward=named_forward),
}


@pytest.mark.parametrize("form", FORMS)
def test_form_of_the_data_does_not_matter(form: str) -> None:
    model, x, y = problem()
    expected = values(ish.oracle(model, (x, y)))
    assert_equal(values(FORMS[form](model, x, y)), expected, 1e-10)


@pytest.mark.parametrize("metric", USUAL)
def test_uneven_batches_give_the_number_of_one_batch(metric: str) -> None:
    model, x, y = problem()
    expected = values(ish.oracle(model, (x, y), batch_size=50), [metric])
    assert_equal(values(ish.oracle(model, (x, y), batch_size=48), [metric]), expected)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batch_size_does_not_matter(size: int) -> None:
    model, x, y = problem(20)
    assert_equal(values(ish.oracle(model, (x, y), batch_size=size)), values(ish.oracle(model, (x, y))), 1e-11)


def test_order_of_the_batches_does_not_matter() -> None:
    model, x, y = problem()
    batches = [(x[rows], y[rows]) for rows in torch.arange(50).split([3, 20, 1, 26])]
    assert_equal(values(ish.oracle(model, batches[::-1])), values(ish.oracle(model, batches)), 1e-11)


def test_float64_arrays_are_cast_to_a_float32_model() -> None:
    model, x, y = problem()
    expected = values(ish.oracle(model, (x.float(), y), dtype="float32"))
    assert values(ish.oracle(model.float(), (x.float().double().numpy(), y.numpy()))) == expected


def test_precision_of_a_copy_does_not_touch_the_model() -> None:
    model, x, y = problem()
    oracle = ish.oracle(model, (x, y), dtype="float32")
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert {array.dtype for array in oracle.parameters.arrays.values()} == {torch.float32}


def test_examples_of_a_loader_are_watched_on_every_pass() -> None:
    model, x, y = problem()
    examples = Rows(x, y)
    oracle = ish.oracle(model, DataLoader(examples, batch_size=16))
    examples.x = x + 1
    with pytest.raises(ish.InvariantSharpnessError, match=r"data change.*augmentation"):
        oracle.loss(oracle.parameters)
