"""Random rescalings of hidden units: what they leave alone, and what they move."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from keras_problems import inputs, labels, perceptron_oracle

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_keras import backend

MOST = 12
METRICS = ["hessian_trace", "normalized_sharpness", "parameter_normalized_sharpness", "fisher_rao_norm"]


def rescaling() -> dict[str, list[dict[str, list[float]]]]:
    """For each network and each rescaling: values before and after, and the trace that there has to be."""
    return {"dense": rescalings_of(perceptron_oracle()), "conv": rescalings_of(chain_oracle())}


def rescalings_of(oracle: Any) -> list[dict[str, list[float]]]:
    before, diagonal = values(oracle), ish.hessian_diagonal(oracle).arrays
    rescalings = chain_rescalings(oracle.groups)
    found = []

    @settings(max_examples=5, derandomize=True, deadline=None, database=None)
    @given(st.tuples(*(exponents(unit_count(oracle.groups, rescaling)) for rescaling in rescalings)))
    def rescale(drawn: tuple[list[int], ...]) -> None:
        factors = oracle.from_numpy({group.name: np.ones(group.shape) for group in oracle.groups})
        for rescaling, powers in zip(rescalings, drawn, strict=True):
            factors = rescaling.apply(oracle, factors, 2.0 ** np.array(powers))
        after = values(ish.Moved(oracle, oracle.parameters * factors))
        expected = sum(float(np.sum(diagonal[n] / d**2)) for n, d in oracle.to_numpy(factors).items())
        found.append(
            {name: [before[name], after[name]] for name in before} | {"law": [after["hessian_trace"], expected]}
        )

    rescale()
    return found


def exponents(units: int) -> st.SearchStrategy[list[int]]:
    """One for each unit, and not all of them zero."""
    return st.lists(st.integers(-MOST, MOST), min_size=units, max_size=units).filter(any)


def values(oracle: Any) -> dict[str, float]:
    report = ish.measure(oracle, METRICS)
    return {"loss": report.loss} | {name: report[name].value for name in METRICS}


def chain_oracle() -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(4, 2, activation="relu", bias_initializer="random_normal"),
            layers.Conv2D(4, 2, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    return backend.oracle(model, (inputs(6, 4, 4, 2), labels(6)), loss="cross_entropy")


CHECKS = [rescaling]
