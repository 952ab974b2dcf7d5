"""Batches in every form have inputs, targets and examples, and what is wrong with one is found and located."""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest

from invariant_sharpness.adapters.data import (
    Batch,
    batch_size,
    calling_model,
    check_inputs,
    check_outputs,
    first_non_finite,
    one_of_each_form,
    split_batch,
    take,
)
from invariant_sharpness.errors import DataError, ModelError, NonFiniteError

X, Y = np.arange(12.0).reshape(4, 3), np.arange(4)


class Tokens(NamedTuple):
    words: Any
    positions: Any


@pytest.mark.parametrize("batch", [(X, Y), [X, Y], Batch(X, Y)])
def test_pair_is_split(batch: Any) -> None:
    inputs, targets = split_batch(batch)
    assert inputs is X, f"the inputs are {inputs}"
    assert targets is Y, f"the targets are {targets}"


def test_dictionary_is_split_at_its_labels() -> None:
    inputs, targets = split_batch({"labels": Y, "x": X})
    assert list(inputs) == ["x"], f"the inputs are {inputs}"
    assert targets is Y, f"the targets are {targets}"


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"x": X, "y": Y}, r"keys 'x', 'y', but no 'labels': rename the targets, or write it yourself"),
        (
            (X, Y, Y),
            r"a batch is a tuple of 3 parts, but it has to be .inputs, targets. or .*'labels', or write it yourself",
        ),
        (X, r"a batch is a ndarray"),
    ],
)
def test_other_forms_are_named(batch: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_batch(batch, ", or write it yourself")


def test_part_of_a_batch_keeps_what_all_examples_share() -> None:
    shared = np.arange(7)
    part = take({"tokens": Tokens(X, shared), "note": "all", "labels": Y}, 1, 3)
    assert part["tokens"].words.tolist() == X[1:3].tolist(), f"{part}"
    assert part["tokens"].positions is shared, f"{part}"
    assert (part["note"], part["labels"].tolist()) == ("all", [1, 2]), f"{part}"


def test_batch_without_examples_is_named() -> None:
    with pytest.raises(DataError, match="no array with an axis of examples"):
        batch_size({"x": np.array(3.0), "note": "all"})


@pytest.mark.parametrize("xp", [np, array_api_strict])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 2)])
def test_first_row_that_is_not_finite_is_found(xp: Any, wrong: float, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape)
    assert first_non_finite(xp.asarray(array)) is None, "zeros are finite"
    array[2:] = wrong
    found = first_non_finite(xp.asarray(array))
    assert found == 2, f"row {found} instead of 2"


@pytest.mark.parametrize("leaf", [np.arange(3), np.array([True]), np.array(["a"]), np.array([None]), "text", None])
def test_what_is_no_real_number_is_not_looked_at(leaf: Any) -> None:
    assert first_non_finite(leaf) is None, f"{leaf!r} is said to be infinite"


def test_inputs_that_are_not_finite_are_located() -> None:
    wrong = np.where(np.arange(4)[:, None] == 2, np.nan, X)
    with pytest.raises(NonFiniteError, match=r"array 1 of batch 5 \(shape \(4, 3\)\).*first in example 2"):
        check_inputs({"ids": Y, "x": wrong}, 5)


@pytest.mark.parametrize("shape", [(), (3, 2), (4, 0)])
def test_outputs_of_other_examples_are_located(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"for the 4 examples of batch 5: the first axis has to count examples"):
        check_outputs(np.zeros(shape), 4, 5)


def test_error_of_a_model_says_on_what_and_what_to_do() -> None:
    words = r"batch 5: the model raised ZeroDivisionError on arrays of shapes \(4, 3\), \(4,\): .*zero. Try again"
    with pytest.raises(ModelError, match=words), calling_model((X, Y, "text"), 5, "Try again"):
        _ = 1 / 0


def test_one_batch_stands_for_each_shape_of_an_example() -> None:
    batches = [Batch(np.zeros((examples, length)), Y) for examples, length in ((4, 3), (2, 3), (4, 5), (1, 3))]
    found = [batch.inputs.shape for batch in one_of_each_form(batches)]
    assert found == [(4, 3), (4, 5)]
