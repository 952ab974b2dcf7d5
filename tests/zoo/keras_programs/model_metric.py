"""A metric of Keras models, on copies of a model at moved parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras_problems import perceptron_oracle

import invariant_sharpness as ish
from invariant_sharpness.testing.problems import default_tasks
from invariant_sharpness_keras import model_metric as of_models

EXAMPLES = 1000


def size_of_outputs(model: Any, x: Any, _: Any) -> float:
    """Of all examples; the copy is overwritten afterwards."""
    outputs = model.predict_on_batch(x)
    for variable in model.trainable_variables:
        variable.assign(0 * variable)
    return float(np.linalg.norm(outputs))


def model_metric() -> dict[str, Any]:
    """How far it is from the same by the oracle, and whether the model stayed as it was."""
    oracle: Any = perceptron_oracle()
    there = ish.Moved(oracle, 2.0 * oracle.parameters)
    before = oracle.model.get_weights()
    value = of_models(size_of_outputs)(there)
    expected = np.linalg.norm(oracle.outputs(there.parameters, EXAMPLES))
    untouched = all(np.array_equal(a, b) for a, b in zip(before, oracle.model.get_weights(), strict=True))
    return {"relative error": abs(value / expected - 1), "untouched": untouched}


def default_network() -> float:
    """How far the loss of a default network is from that of the reference, relative to it."""
    task = default_tasks()[0]
    here, there = task.oracle("numpy"), task.oracle("keras")
    return abs(there.loss(there.parameters) / here.loss(here.parameters) - 1)


CHECKS = [model_metric, default_network]
