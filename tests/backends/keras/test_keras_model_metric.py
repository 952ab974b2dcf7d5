"""Metrics that are written for Keras models measure copies of them, on every engine."""

from __future__ import annotations

from zoo.keras_results import TOLERANCE, found, tensorflow_before_others


@tensorflow_before_others
def test_metric_of_models_is_that_of_the_oracle(engine: str) -> None:
    error = found(engine, "model_metric")["relative error"]
    assert error < TOLERANCE[engine], f"a relative error of {error}"


@tensorflow_before_others
def test_metric_leaves_the_model_alone(engine: str) -> None:
    assert found(engine, "model_metric")["untouched"], "the weights of the user's model changed"


@tensorflow_before_others
def test_default_network_is_that_of_the_reference(engine: str) -> None:
    error = found(engine, "default_network")
    assert error < TOLERANCE[engine], f"the loss has a relative error of {error}"
