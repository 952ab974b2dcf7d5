"""Models as users have them: layers, roles, frozen parts, and what they are afterwards."""

from __future__ import annotations

import pytest

from zoo.keras_results import found, tensorflow_before_others


@tensorflow_before_others
def test_attention_is_differentiated_twice_and_has_rows_and_columns(engine: str) -> None:
    attention = found(engine, "attention")
    left, right = attention["symmetry"]
    assert left == pytest.approx(right, rel=1e-5)
    assert left != 0
    groups = attention["groups"]
    assert groups["query/kernel"] == ["matrix", [1, 2], [0]]
    assert groups["attention_output/kernel"] == ["matrix", [2], [0, 1]]
    assert groups["gamma"][0] == "norm"


ROLES = {
    "grouped/kernel": ["convolution", [3], [2], 2, "input", None],
    "grouped/bias": ["bias", [0], [], 1, "input", "grouped/kernel"],
    "depthwise/kernel": ["convolution", [3], [2], 6, "output", None],
    "depthwise/bias": ["bias", [0], [], 1, "input", "depthwise/kernel"],
    "separable/depthwise_kernel": ["convolution", [3], [2], 12, "output", None],
    "separable/pointwise_kernel": ["convolution", [3], [2], 1, "input", None],
    "separable/bias": ["bias", [0], [], 1, "input", "separable/pointwise_kernel"],
    "transposed/kernel": ["convolution", [2], [3], 1, "input", None],
    "transposed/bias": ["bias", [0], [], 1, "input", "transposed/kernel"],
    "norm/gamma": ["norm", [0], [], 1, "input", None],
    "norm/beta": ["bias", [0], [], 1, "input", "norm/gamma"],
    "table/embeddings": ["embedding", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/kernel": ["matrix", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/recurrent_kernel": ["matrix", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/bias": ["bias", [0], [], 1, "input", "recurrent/lstm_cell/kernel"],
    "dense/kernel": ["matrix", [1], [0], 1, "input", None],
    "dense/bias": ["bias", [0], [], 1, "input", "dense/kernel"],
}


@tensorflow_before_others
def test_roles_axes_and_owners(engine: str) -> None:
    assert found(engine, "roles") == ROLES


@tensorflow_before_others
def test_given_groups_replace_those_of_the_library(engine: str) -> None:
    role, error = found(engine, "given_groups")
    assert role == "other"
    assert "'other' was given with shape (6, 3), but in the model it is no trainable parameter" in error


@tensorflow_before_others
def test_frozen_layers_are_not_measured(engine: str) -> None:
    assert {name.split("/")[0] for name in found(engine, "frozen")} == {"hidden0", "last"}


@tensorflow_before_others
def test_model_and_random_states_are_what_they_were(engine: str) -> None:
    assert found(engine, "untouched") == {"measured": True, "ZeroDivisionError": True, "KeyboardInterrupt": True}


@tensorflow_before_others
def test_two_threads_get_the_values_of_one(engine: str) -> None:
    assert found(engine, "two_threads") == {"one model": True, "two models": True, "models": True}


@tensorflow_before_others
def test_training_changes_no_vector_and_is_seen_by_the_next_pass(engine: str) -> None:
    """Moving statistics, too: they are no constants of a compiled program."""
    result = found(engine, "training_between_passes")
    assert result["vector"], "a vector changed when the model was trained"
    assert result["moved"], "the oracle's parameters are those before the training"
    value, expected = result["loss"]
    assert value == pytest.approx(expected, rel=1e-6), f"the loss is {value}, of a new oracle {expected}"
