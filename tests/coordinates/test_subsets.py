"""An oracle restricted to some examples is the oracle of these examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness.adapters.data import chosen_examples
from invariant_sharpness.errors import DataError
from invariant_sharpness.protocol import SubsetOracle, require
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

EXAMPLES, CHOSEN = 23, (17, 2, 3, 22, 9, 10, 11)

X = np.random.default_rng(0).normal(size=(EXAMPLES, 4))
Y = np.arange(EXAMPLES) % 3


def numpy_oracle(x: Any, y: Any) -> Any:
    return NetworkOracle(ReluNetwork.initialize((4, 5, 3), seed=0), x, y, batch_size=8)


def torch_oracle(x: Any, y: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)).double()
    return ish.oracle(model, (torch.tensor(x), torch.tensor(y)), batch_size=8)


def jax_oracle(x: Any, y: Any) -> Any:
    with jax.enable_x64(True):
        parameters = {"kernel": jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)))}
        return ish.oracle(lambda p, z: jnp.tanh(z @ p["kernel"]), (x, y), parameters=parameters, batch_size=8)


ORACLES: dict[str, Callable[[Any, Any], Any]] = {"numpy": numpy_oracle, "torch": torch_oracle, "jax": jax_oracle}


@pytest.fixture(params=ORACLES)
def make(request: pytest.FixtureRequest) -> Any:
    with jax.enable_x64(True):
        yield ORACLES[request.param]


def gradient(oracle: Any) -> Any:
    return np.concatenate([a.ravel() for a in oracle.to_numpy(oracle.gradient(oracle.parameters)).values()])


def assert_close(found: Any, expected: Any) -> None:
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error <= 1e-13, f"relative error {error:.1e}"


def test_number_of_examples_is_that_of_the_data(make: Any) -> None:
    assert make(X, Y).examples == EXAMPLES


def test_subset_is_the_oracle_of_its_examples(make: Any) -> None:
    subset, alone = make(X, Y).subset(CHOSEN), make(X[list(CHOSEN)], Y[list(CHOSEN)])
    assert subset.examples == len(CHOSEN)
    assert abs(subset.loss(subset.parameters) - alone.loss(alone.parameters)) <= 1e-14
    assert_close(gradient(subset), gradient(alone))


def test_mean_over_a_partition_into_equal_parts_is_the_whole(make: Any) -> None:
    parts = np.random.default_rng(2).permutation(21).reshape(3, 7)
    whole = make(X[:21], Y[:21])
    assert_close(np.mean([gradient(whole.subset(part)) for part in parts], axis=0), gradient(whole))


def test_order_and_repetition_do_not_matter(make: Any) -> None:
    oracle = make(X, Y)
    assert_close(gradient(oracle.subset((5, 20, 5, 1))), gradient(oracle.subset((1, 5, 20))))


@pytest.mark.parametrize("wrong", [(), (-1,), (0, EXAMPLES)])
def test_examples_that_are_not_there_are_refused(make: Any, wrong: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="examples are numbered from 0 to 22"):
        make(X, Y).subset(wrong)


def test_coordinates_are_kept(make: Any) -> None:
    oracle = make(X, Y)
    scale = oracle.parameters.map(lambda a: 0 * a + 2.0)
    scaled = require(ish.Scaled(oracle, scale), SubsetOracle, metric="test")
    assert scaled.examples == EXAMPLES
    assert_close(gradient(scaled.subset(CHOSEN)), 2 * gradient(oracle.subset(CHOSEN)))
    moved = require(ish.Moved(oracle, oracle.parameters * 3.0), SubsetOracle, metric="test")
    expected = ish.Moved(oracle.subset(CHOSEN), oracle.parameters * 3.0)
    assert_close(gradient(moved.subset(CHOSEN)), gradient(expected))


def test_shuffling_loader_has_the_same_examples_each_time() -> None:
    torch.manual_seed(3)
    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=8, shuffle=True)
    oracle = ish.oracle(nn.Linear(4, 3).double(), loader)
    first, again = (gradient(oracle.subset(CHOSEN)) for _ in range(2))
    assert np.array_equal(first, again)


def test_subset_batches_are_as_large_as_the_first_of_the_data() -> None:
    batches = [(X[start : start + 8], Y[start : start + 8]) for start in range(0, EXAMPLES, 8)]
    sizes = [len(x) for x, _ in chosen_examples(batches, range(0, EXAMPLES, 2))]
    assert sizes == [8, 4], f"batches of {sizes}"


def test_examples_of_different_shapes_stay_in_their_batches() -> None:
    batches = [{"x": np.zeros((3, 5)), "labels": np.arange(3)}, {"x": np.ones((3, 7)), "labels": np.arange(3)}]
    shapes = [batch["x"].shape for batch in chosen_examples(batches, (1, 2, 4))]
    assert shapes == [(2, 5), (1, 7)], f"shapes {shapes}"
