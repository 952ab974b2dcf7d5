"""Weights of layers of one's own have the axes of the operations in which they enter, on every engine."""

from __future__ import annotations

import pytest

from zoo.keras_results import (
    TOLERANCE,
    every_engine_deep,
    found,
    relative_error,
    tensorflow_alone,
    tensorflow_before_others,
)

OUTPUTS_FIRST, INPUTS_FIRST = ["matrix", [0], [1], 1, True], ["matrix", [1], [0], 1, True]
UNKNOWN = ["other", [], [], 1, False]

ROLES = {
    "inputs first": INPUTS_FIRST,
    "outputs first": OUTPUTS_FIRST,
    "outputs first, on columns": OUTPUTS_FIRST,
    "outputs first, by letters": OUTPUTS_FIRST,
    "outputs first, by positions": OUTPUTS_FIRST,
    "one output": OUTPUTS_FIRST,
    "one input": OUTPUTS_FIRST,
    "convolution": ["convolution", [3], [2], 1, True],
    "convolution, outputs first": ["convolution", [0], [1], 1, True],
    "convolution, inputs first": ["convolution", [3], [0], 1, True],
    "convolution of lines": ["convolution", [0], [2], 1, True],
    "grouped convolution": ["convolution", [3], [2], 2, True],
    "transposed convolution": ["convolution", [2], [3], 1, True],
    "depthwise convolution": ["convolution", [3], [2], 2, True],
    "table": ["embedding", [1], [0], 1, True],
    "experts": ["matrix", [0, 2], [1], 1, False],
    "normalized": UNKNOWN,
    "multiplied with itself": UNKNOWN,
    "table and weight": UNKNOWN,
}
"""Role, outputs, inputs, channel groups, and whether the bias of the layer belongs to it."""


@every_engine_deep
@pytest.mark.parametrize("kind", ROLES)
def test_axes_are_told_by_the_operation(engine: str, kind: str) -> None:
    assert found(engine, "roles_by_use")[kind] == ROLES[kind]


@every_engine_deep
def test_own_layers_are_measured_as_their_twins(engine: str) -> None:
    for kind, pair in found(engine, "own_layers_and_twins").items():
        assert relative_error(pair) <= TOLERANCE[engine], f"(17) of {kind} is {pair[0]}, of its twin {pair[1]}"


@every_engine_deep
def test_layers_of_keras_tell_their_axes_and_subclasses_do_not(engine: str) -> None:
    roles = found(engine, "weights_of_other_owners")
    assert roles["subclass"] == [["matrix", [0], [1]]]
    assert roles["cell"] == [["matrix", [0], [1]]] * 2
    assert roles["cell of Keras"] == [["matrix", [1], [0]]] * 2
    assert roles["slopes"] == [["other", [], []]], "slopes of a PReLU are not multiplied with vectors"


@every_engine_deep
def test_weight_of_unknown_axes_is_named(engine: str) -> None:
    (note,) = found(engine, "left_out")
    assert "nothing tells their rows from their columns" in note, note
    assert "own/weight" in note, note


@tensorflow_before_others
def test_weights_of_a_model_are_told_by_the_operation(engine: str) -> None:
    assert found(engine, "own_weights") == {"first": ["matrix", [0], [1]], "second": ["matrix", [1], [0]]}


@tensorflow_alone
def test_variables_of_a_module_are_told_by_the_operation() -> None:
    assert found("tensorflow", "roles_of_a_module") == [
        ["matrix", [0], [1]],
        ["convolution", [0], [1]],
        ["matrix", [1], [0]],
    ]
