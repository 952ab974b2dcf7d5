"""``max_examples=`` measures on the first examples and reads nothing beyond them, and data without an end are recognized."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.data import Dataset, as_batches, checked_dataset, endings, leaves, split_batch
from invariant_sharpness.errors import DataError
from invariant_sharpness_numpy import ReluNetwork

X, Y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
NETWORK = ReluNetwork.initialize((3, 4, 2), seed=0)


class Stream:
    """Batches of four examples, and then the same again, for ever; counts those that are read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for number in count():
            self.read += 1
            rows = np.arange(4 * number, 4 * number + 4) % 12
            yield X[rows], Y[rows]


def limited(data: Any, most: int | None, batch_size: int = 5) -> Dataset[Any]:
    return checked_dataset(as_batches(data, batch_size, max_examples=most), split_batch, leaves)


def inputs_of(data: Dataset[Any]) -> Any:
    return np.concatenate([batch.inputs for batch in data])


FORMS: dict[str, Callable[[], Any]] = {
    "pair": lambda: (X, Y),
    "one batch": lambda: {"x": X, "labels": Y},
    "list": lambda: [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "stream": Stream,
    "iterator of streams": lambda: iter(Stream()),
    "itertools": lambda: cycle([(X[:5], Y[:5]), (X[5:], Y[5:])]),
}


@pytest.mark.parametrize("most", [1, 4, 7, 12])
@pytest.mark.parametrize("form", FORMS)
def test_first_examples_are_measured_on_every_pass(form: str, most: int) -> None:
    data = limited(FORMS[form](), most)
    for _ in range(2):
        inputs = [batch.inputs["x"] if form == "one batch" else batch.inputs for batch in data]
        assert np.array_equal(np.concatenate(inputs), X[:most]), f"{inputs} are not the first {most} examples"


def test_more_than_there_are_is_all() -> None:
    assert np.array_equal(inputs_of(limited((X, Y), 100)), X), "some of 12 examples are missing"


def test_no_batch_is_read_beyond_the_last_example() -> None:
    stream = Stream()
    data = limited(stream, 8)
    stream.read = 0
    assert sum(1 for _ in data) == 2, "8 examples are two batches of four"
    assert stream.read == 2, f"{stream.read} batches were read for two"


@pytest.mark.parametrize("most", [0, -1, 2.5, True, "all"])
def test_what_is_no_number_of_examples_is_refused(most: Any) -> None:
    with pytest.raises(DataError, match=r"max_examples=.*an integer, at least one"):
        as_batches((X, Y), 5, max_examples=most)


@pytest.mark.parametrize("data", [cycle([(X, Y)]), count()])
def test_iterator_that_never_ends_is_named(data: Any) -> None:
    with pytest.raises(DataError, match=rf"never end, because of itertools.{type(data).__name__}.*pass max_examples=n"):
        as_batches(data, 5)


def test_one_shot_iterator_says_how_its_first_examples_are_held() -> None:
    with pytest.raises(DataError, match=r"one-shot generator.*max_examples=n, and the first n examples are held"):
        as_batches((batch for batch in [(X, Y)]), 5)


def test_stream_without_an_end_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST_EXAMPLES", 100)
    stream = Stream()
    with pytest.raises(
        DataError, match=r"type Stream do not end after 100 examples, and have no length: pass max_examples"
    ):
        limited(stream, None)
    assert stream.read == 25, f"{stream.read} batches of four were read before the error"


def test_data_that_tell_their_length_may_be_as_long_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "MOST_EXAMPLES", 8)
    data = [(X[:6], Y[:6]), (X[6:], Y[6:])]
    assert np.array_equal(inputs_of(limited(data, None)), X), "a list was cut"


def test_oracle_of_the_first_examples_is_that_of_these_alone() -> None:
    found = ish.oracle(NETWORK, (X, Y), batch_size=4, max_examples=7)
    alone = ish.oracle(NETWORK, (X[:7], Y[:7]), batch_size=4)
    assert found.loss(found.parameters) == alone.loss(alone.parameters), "the loss is of other examples"
    assert ish.hessian_trace(found).value == ish.hessian_trace(alone).value, "the trace is of other examples"


def test_loader_of_torch_without_an_end() -> None:
    torch = pytest.importorskip("torch")

    class Endless(torch.utils.data.IterableDataset):  # type: ignore[name-defined, misc]
        def __iter__(self) -> Iterator[Any]:
            return ((torch.tensor(X[row % 12]), torch.tensor(Y[row % 12])) for row in count())

    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    found = ish.oracle(model, torch.utils.data.DataLoader(Endless(), batch_size=5), max_examples=7)
    alone = ish.oracle(model, (X[:7], Y[:7]))
    assert found.loss(found.parameters) == pytest.approx(alone.loss(alone.parameters), rel=1e-14), "other examples"


def test_stream_on_jax() -> None:
    jax = pytest.importorskip("jax")
    tree = {"weight": jax.numpy.asarray(X[:2].T)}

    def apply(parameters: Any, x: Any) -> Any:
        return x @ parameters["weight"]

    found = ish.oracle(apply, Stream(), parameters=tree, max_examples=7)
    alone = ish.oracle(apply, (X[:7], Y[:7]), parameters=tree)
    assert found.loss(found.parameters) == pytest.approx(alone.loss(alone.parameters), rel=1e-6), "other examples"
