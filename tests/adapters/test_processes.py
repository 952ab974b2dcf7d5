"""Processes that have the data together, in threads that stand for them: the sums, the numbers of examples, and the errors."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from invariant_sharpness import prng
from invariant_sharpness.adapters import DatasetOracle
from invariant_sharpness.adapters.data import checked_dataset
from invariant_sharpness.adapters.data.batches import Batches
from invariant_sharpness.adapters.shares import Share
from invariant_sharpness.errors import DataError, ModelError, NonFiniteError, ProcessError
from zoo import ROOT

example = runpy.run_path(str(ROOT / "docs" / "examples" / "engine_of_a_new_framework.py"))
BOUNDS = [0, 7, 7, 40]
"""Where the parts of three processes begin and end: the second has no example."""


class Thread:
    """One of the threads that stand for processes."""

    def __init__(self, rank: int, told: list[Any], barrier: Barrier) -> None:
        self.rank, self.size = rank, len(told)
        self._told, self._barrier = told, barrier

    def gather(self, told: Any, /) -> list[Any]:
        self._told[self.rank] = told
        self._barrier.wait(60)
        answers = list(self._told)
        self._barrier.wait(60)
        return answers

    def add(self, array: Any, holders: Sequence[bool], /) -> Any:
        return sum(part for part, holds in zip(self.gather(array), holders, strict=True) if holds)


def in_threads(program: Callable[[Thread], Any], size: int = 3) -> list[Any]:
    """What a program gives, or raises, on each of so many threads."""
    told, barrier = [None] * size, Barrier(size)
    with ThreadPoolExecutor(size) as pool:
        runs = [pool.submit(program, Thread(rank, told, barrier)) for rank in range(size)]
        return [run.exception() or run.result() for run in runs]


@pytest.fixture(scope="module")
def one() -> Any:
    return example["oracle"]()


def part(one: Any, thread: Thread) -> DatasetOracle:
    """The oracle of a thread, which has a part of the data."""
    start, stop = BOUNDS[thread.rank : thread.rank + 2]
    x, y = one.all_examples()
    batches = [(x[k : min(k + 16, stop)], y[k : min(k + 16, stop)]) for k in range(start, stop, 16)]
    dataset = checked_dataset(Batches(batches, static=True), one.engine.batch, one.engine.host_rows, may_be_empty=True)
    return DatasetOracle(one.engine, dataset, 1, thread)


def flat(oracle: Any, vector: Any) -> np.ndarray:
    return np.concatenate([array.ravel() for array in oracle.to_numpy(vector).values()])


def test_products_of_uneven_and_empty_parts_are_those_of_all_data(one: Any) -> None:
    at, along = one.parameters, prng.signs(one, 0, 0)
    found = in_threads(lambda thread: flat(one, part(one, thread).hessian_vector_product(at, along)))
    expected = flat(one, one.hessian_vector_product(at, along))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert found[0] == pytest.approx(expected, rel=1e-12), f"{found[0]} instead of {expected}"


def test_subset_has_the_examples_with_these_numbers_of_all(one: Any) -> None:
    at, chosen = one.parameters, [3, 6, 7, 39]
    found = in_threads(lambda thread: part(one, thread).subset(chosen).loss(at))
    expected = one.subset(chosen).loss(at)
    assert found == pytest.approx([expected] * 3, rel=1e-12), f"{found} instead of {expected}"


def test_numbers_of_no_example_are_refused_on_all(one: Any) -> None:
    for error in in_threads(lambda thread: part(one, thread).subset([40])):
        assert isinstance(error, DataError), repr(error)
        assert "numbered from 0 to 39" in str(error)


def test_examples_are_counted_over_all(one: Any) -> None:
    assert in_threads(lambda thread: part(one, thread).examples) == [40, 40, 40]


def test_all_examples_are_in_no_process(one: Any) -> None:
    for error in in_threads(lambda thread: part(one, thread).all_examples()):
        assert isinstance(error, DataError), repr(error)
        assert "3 processes have the data together" in str(error)


def test_loss_that_is_infinite_in_one_is_named_by_all(one: Any) -> None:
    def program(thread: Thread) -> Any:
        oracle = part(one, thread)
        for batch in oracle._dataset.batches.source if thread.rank == 2 else ():
            batch[1][5:6] = np.inf
        return oracle.loss(oracle.parameters)

    messages = {str(error) for error in in_threads(program)}
    assert len(messages) == 1
    assert messages.pop().startswith("process 2: the loss of example 5 in batch 0 is inf")


@pytest.mark.parametrize(("raised", "kind"), [(NonFiniteError("bad"), NonFiniteError), (KeyError("bad"), ModelError)])
def test_all_raise_what_one_raises(one: Any, raised: Exception, kind: type[Exception]) -> None:
    def program(thread: Thread) -> Any:
        oracle = part(one, thread)

        def fail(*_: Any) -> Any:
            raise raised

        if thread.rank == 0:
            oracle._cut = fail  # type: ignore[method-assign]
        return oracle.gradient(oracle.parameters)

    errors = in_threads(program)
    assert [type(error) for error in errors] == [kind] * 3, f"{errors}"
    assert all(str(error).startswith("process 0: ") for error in errors), f"{errors}"


def test_processes_that_compute_different_things_are_told_so(one: Any) -> None:
    def program(thread: Thread) -> Any:
        oracle = part(one, thread)
        at, along = oracle.parameters, prng.signs(oracle, 0, 0)
        return oracle.hessian_vector_products(at, [along] * (1 + thread.rank))

    errors = in_threads(program)
    assert {type(error) for error in errors} == {ProcessError}, f"{errors}"


@pytest.mark.parametrize(("rank", "first"), [(0, 5), (1, 0), (2, 3)])
def test_first_examples_are_shared_in_the_order_of_the_ranks(rank: int, first: int) -> None:
    assert Share.of(rank, [5, 0, 9]).among_first(8) == first
