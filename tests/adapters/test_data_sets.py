"""A data set is read again and again, and whatever changes from pass to pass is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.adapters.data import (
    Batch,
    Dataset,
    as_batches,
    checked_dataset,
    fingerprint,
    leaves,
    split_batch,
)
from invariant_sharpness.adapters.data.examples import host_rows
from invariant_sharpness.errors import DataError

EXAMPLES = 12


@dataclass
class Loader:
    """Batches that are made anew on every pass, from examples drawn by NumPy's random state."""

    noise: float = 0.0
    shuffled: bool = False
    batches: int = 4

    def __iter__(self) -> Iterator[Any]:
        x, y = examples()
        order = np.random.permutation(EXAMPLES) if self.shuffled else np.arange(EXAMPLES)  # noqa: NPY002
        for rows in np.array_split(order, self.batches) if self.batches else ():
            yield x[rows] + self.noise * np.random.normal(size=(len(rows), 3)), y[rows]  # noqa: NPY002


def examples() -> tuple[Any, Any]:
    return np.random.default_rng(0).normal(size=(EXAMPLES, 3)), np.arange(EXAMPLES) % 3


def checked(data: Any) -> Dataset[Batch]:
    return checked_dataset(as_batches(data, batch_size=5), split_batch, leaves)


@given(order=st.permutations(range(EXAMPLES)), cuts=st.lists(st.integers(0, EXAMPLES), max_size=4))
def test_fingerprint_depends_neither_on_the_order_nor_on_the_batches(order: list[int], cuts: list[int]) -> None:
    x, y = examples()
    found = sum(fingerprint([x[rows], y[rows]]) for rows in np.split(np.array(order), sorted(cuts))) % 2**64
    assert found == fingerprint([x, y]), f"{found} and not {fingerprint([x, y])}"


@given(row=st.integers(0, EXAMPLES - 1), column=st.integers(0, 2))
def test_fingerprint_sees_the_last_bit_of_every_entry(row: int, column: int) -> None:
    x, y = examples()
    before = fingerprint([x, y])
    x[row, column] = np.nextafter(x[row, column], np.inf)
    assert fingerprint([x, y]) != before, f"{before} before and after"


def test_fingerprint_tells_which_target_belongs_to_which_input() -> None:
    x, y = examples()
    assert fingerprint([x, y]) != fingerprint([x, np.roll(y, 1)]), "swapped targets have the same fingerprint"


@dataclass(frozen=True)
class OnDevice:
    """Where an array lies, in the words of torch."""

    type: str


@dataclass(frozen=True)
class Tensor:
    """A tensor as torch has them: NumPy sees those on the CPU."""

    values: Any
    device: OnDevice

    @property
    def shape(self) -> Any:
        return self.values.shape

    @property
    def ndim(self) -> int:
        return int(self.values.ndim)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        assert self.device.type == "cpu", "an array was copied back from the device"
        return self.values


@pytest.mark.parametrize(("device", "copies"), [("cpu", 0), ("cuda", 3)])
def test_batches_that_lie_on_the_host_are_not_copied_back(device: str, copies: int) -> None:
    """Two passes find out whether the data change, and each later one whether they have: of what lies on the host nothing is asked."""
    x, y = (Tensor(array, OnDevice(device)) for array in examples())
    asked: list[Any] = []
    data = checked_dataset(
        as_batches(iter_again(lambda: [(x, y)]), batch_size=5),
        lambda batch: batch,
        lambda batch: (asked.append(batch), [batch[0].values, batch[1].values])[1],
    )
    list(data)
    assert len(asked) == copies, f"{len(asked)} batches were copied to the host instead of {copies}"


def iter_again(make: Any) -> Any:
    """Something that is iterated over anew each time, and is no list in memory."""

    class Again:
        def __iter__(self) -> Iterator[Any]:
            return iter(make())

    return Again()


def test_a_type_that_numpy_does_not_know_is_seen_by_the_adapter() -> None:
    x = torch.arange(12.0).reshape(4, 3).bfloat16()
    assert host_rows((x, torch.arange(4))) is None, "NumPy has no bfloat16"
    rows = host_rows((x.float(), torch.arange(4)))
    assert rows is not None, "two arrays on the host"
    assert np.array_equal(rows[0], x.float().numpy()), f"{rows[0]} instead of {x}"


def test_shuffling_is_accepted() -> None:
    seen = sum(batch.examples for batch in checked(Loader(shuffled=True)))
    assert seen == EXAMPLES, f"{seen} of {EXAMPLES} examples were read"


def test_noise_is_refused() -> None:
    with pytest.raises(DataError, match=r"change from pass to pass.*switch off random augmentation"):
        checked(Loader(noise=1e-9))


def test_change_after_the_check_is_found() -> None:
    loader = Loader()
    dataset = checked(loader)
    loader.noise = 1e-9
    with pytest.raises(DataError, match="change from pass to pass"):
        list(dataset)


def test_random_state_is_what_it_was() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.get_state()[1]  # type: ignore[index] # noqa: NPY002
    checked(Loader(shuffled=True))
    assert np.array_equal(np.random.get_state()[1], expected), "the user's random state has moved"  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize("data", [[], Loader(batches=0), (np.zeros((0, 3)), np.zeros(0, dtype=int))])
def test_no_batch_is_an_error(data: Any) -> None:
    with pytest.raises(DataError, match="data are empty"):
        list(checked(data))


def test_data_set_that_runs_empty_later_is_an_error() -> None:
    batches = [examples()]
    dataset = checked(batches)
    batches.clear()
    with pytest.raises(DataError, match="data are empty"):
        list(dataset)
