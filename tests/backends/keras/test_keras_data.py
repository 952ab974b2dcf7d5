"""Data in all forms, and what is wrong with data, models and losses."""

from __future__ import annotations

import pytest

from zoo.keras_results import every_engine, found


@every_engine
def test_all_forms_of_data_have_one_loss(engine: str) -> None:
    losses = found(engine, "forms_of_data")
    expected = losses["arrays"]
    for form, loss in losses.items():
        assert loss == pytest.approx(expected, rel=1e-6 if engine != "tensorflow" else 1e-14), f"{form} has loss {loss}"


@every_engine
def test_inputs_in_a_dictionary_or_a_tuple(engine: str) -> None:
    named, ordered = found(engine, "two_inputs")
    assert named == pytest.approx(ordered, rel=1e-6)
    assert named[0] == pytest.approx(1.0986122886681098, rel=1e-6)


ERRORS = {
    "empty list": ["DataError", "data are empty"],
    "empty batch": ["DataError", "batch 1 is empty"],
    "generator": ["DataError", "one-shot", "Pass list(data)"],
    "no labels": ["DataError", "no 'labels'"],
    "rows": ["DataError", "one row per example", "(11, 5), (7,)"],
    "NaN input": ["NonFiniteError", "array 0 of batch 1", "example 4", "clean the data"],
    "label": ["DataError", "batch 1: target 3 of example 2"],
    "columns": ["DataError", "one class label for each row", "or targets of the shape of the outputs"],
    "features": ["ModelError", "batch 0", "(11, 4)", "Check what the model takes"],
    "augmentation": ["DataError", "change from pass to pass"],
    "unknown loss": ["LossError", "'hinges' is not known"],
    "mean loss": ["LossError", "returned shape () for 11 examples"],
    "from probabilities": ["LossError", "takes probabilities", "with from_logits=True"],
    "softmax": ["LossError", "outputs are probabilities", "without its last softmax"],
    "infinite weight": ["NonFiniteError", "hidden0/kernel' has 35 entries"],
    "frozen": ["ModelError", "no variable of the model is trainable"],
    "unbuilt": ["ModelError", "call model.build"],
    "mixed precision": ["ModelError", "compute in bfloat16", "set_dtype_policy"],
    "half precision": ["ModelError", "has dtype bfloat16", "set_dtype_policy"],
    "dropout in inference": ["ModelError", "the model is random (dropout?)", "call the model in inference mode"],
    "two outputs": ["ModelError", "instead of one tensor"],
}


@every_engine
@pytest.mark.parametrize("what", ERRORS)
def test_what_is_wrong_is_named(engine: str, what: str) -> None:
    message = found(engine, "errors")[what]
    for words in ERRORS[what]:
        assert words in message, message


@every_engine
def test_unknown_cotangents_are_refused(engine: str) -> None:
    messages = found(engine, "unknown_cotangents")
    assert len(messages) == 2, messages
    for message in messages:
        assert message.startswith("ArgumentError: cotangents of kind"), message


@every_engine
def test_loss_that_is_not_finite_names_example_and_batch(engine: str) -> None:
    message = found(engine, "example_with_an_infinite_loss")
    assert "NonFiniteError: the loss of example 2 in batch 1 is inf" in message
