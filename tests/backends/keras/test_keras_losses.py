"""Losses of Keras on every engine: values are Keras' own, sample weights multiply, and what cannot be measured is named."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.keras_programs.sure_losses import (
    BINARY_LABELS,
    BINARY_LOGITS,
    LOGITS,
    close,
    close_matrix,
    of_classes,
    of_logits,
)
from zoo.keras_results import TOLERANCE, every_engine, every_engine_deep, found, relative_error

REFUSED = {
    "logits as probabilities": ["LossError", "takes probabilities (from_logits=False)", "with from_logits=True"],
    "probabilities as logits": ["LossError", "outputs are probabilities", "without its last softmax"],
    "divided by weights": ["LossError", "mean_with_sample_weight", "divide the sample weights by their mean"],
    "negative weights": ["DataError", "some sample weights are negative"],
    "weights of another shape": ["DataError", "sample weights have shape (7, 2) for 7 examples"],
}


@every_engine
def test_values_are_those_of_keras(engine: str) -> None:
    for what, pair in found(engine, "values_of_losses").items():
        assert relative_error(pair) <= max(TOLERANCE[engine], 1e-6), f"{what} is {pair[0]}, by Keras {pair[1]}"


@every_engine_deep
def test_losses_of_oracles_are_those_of_keras(engine: str) -> None:
    for what, pair in found(engine, "losses_of_oracles").items():
        assert relative_error(pair) <= max(TOLERANCE[engine], 1e-6), f"{what} is {pair[0]}, by Keras {pair[1]}"


@every_engine_deep
def test_sample_weights_multiply_the_losses_of_examples(engine: str) -> None:
    for what, error in found(engine, "weighted_derivatives").items():
        assert error <= TOLERANCE[engine], f"{what} is off by {error:.1e}"


@every_engine
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_is_named(engine: str, what: str) -> None:
    message = found(engine, "refused_losses")[what]
    for words in REFUSED[what]:
        assert words in message, message


@every_engine
def test_a_sure_network_loses_no_digits(engine: str) -> None:
    _, gradient, hessian = of_classes(np.roll(LOGITS, 1), 1)
    _, slopes, curvatures = of_logits(BINARY_LOGITS, BINARY_LABELS)
    expected = {"cross_entropy": (gradient, hessian), "binary_cross_entropy": (slopes / 4, np.diag(curvatures) / 4)}
    for what, parts in found(engine, "sure_networks").items():
        loss, dtype = what.split()
        close(parts["gradient"], expected[loss][0], dtype, f"the gradient of {what}")
        for matrix in parts["matrices"]:
            close_matrix(np.array(matrix), expected[loss][1], dtype, f"the Hessian of {what}")
