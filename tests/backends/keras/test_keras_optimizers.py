"""The states of Keras' optimizers are read as those of other frameworks are."""

from __future__ import annotations

import pytest

from zoo.keras_results import TOLERANCE, found, relative_error, tensorflow_before_others

MESSAGES = {
    "fresh": "take a step before it is read",
    "other": "the preconditioner of Adagrad is not known",
    "elsewhere": "trains no variable of the oracle's model",
}


@tensorflow_before_others
@pytest.mark.parametrize("kind", ["adam", "rmsprop", "sgd"])
def test_preconditioned_sharpness_is_that_of_the_reference(kind: str, engine: str) -> None:
    value, expected, threshold, formula = found(engine, "states_of_optimizers")[kind]
    error = relative_error([value, expected])
    assert error <= TOLERANCE[engine], f"{kind} has {value}, by NumPy {expected} ({error:.1e})"
    assert relative_error([threshold, formula]) <= 1e-6, f"{threshold}, by the formula {formula}"


@tensorflow_before_others
def test_optimizers_that_cannot_be_read_say_why(engine: str) -> None:
    messages = found(engine, "optimizers_that_cannot_be_read")
    wrong = {name: messages.get(name) for name, words in MESSAGES.items() if words not in messages.get(name, "")}
    assert not wrong, f"{wrong}"
