"""Outputs that are scaled or shifted, which no classification sees: which measures do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy
from zoo import numpy_problem

Measure = Callable[[ish.CurvatureOracle], ish.Estimate]

PER_LAYER: dict[str, Measure] = {
    "(13)": ish.matrix_normalized_sharpness,
    "(13), biases in groups of their own": partial(ish.matrix_normalized_sharpness, biases="own_group"),
    "(17)": ish.normalized_sharpness,
    "(17), biases as a column": partial(ish.normalized_sharpness, biases="column"),
    "(17), biases one by one": partial(ish.normalized_sharpness, biases="parameterwise"),
    "one scale per parameter": ish.parameter_normalized_sharpness,
    "(25)": ish.fisher_rao_norm,
}
WITHOUT_BIASES = ("(13)", "(17)", "one scale per parameter")


def oracle(loss: str) -> ish.CurvatureOracle:
    return numpy_problem.problem(loss, True).oracle


def with_scaled_outputs(model: ish.CurvatureOracle, factor: float) -> ish.Moved:
    """The last weight and bias times a factor."""
    *_, weight, bias = [group.name for group in model.groups]
    ones = {g.name: np.full(g.shape, factor if g.name in (weight, bias) else 1.0) for g in model.groups}
    return ish.Moved(model, model.parameters * model.from_numpy(ones))


def with_shifted_outputs(model: ish.CurvatureOracle, shift: float) -> ish.Moved:
    """The same number added to every entry of the last bias."""
    last = model.groups[-1].name
    added = {g.name: np.full(g.shape, shift if g.name == last else 0.0) for g in model.groups}
    return ish.Moved(model, model.parameters + model.from_numpy(added))


def factor(measure: Measure, before: ish.CurvatureOracle, after: ish.CurvatureOracle) -> float:
    return measure(after).value / measure(before).value


@pytest.mark.parametrize("name", PER_LAYER)
def test_scale_of_the_outputs_does_not_count_under_the_normalized_loss(name: str) -> None:
    model = oracle("normalized_cross_entropy")
    found = factor(PER_LAYER[name], model, with_scaled_outputs(model, 8.0))
    assert abs(found - 1) <= 1e-10, f"{name} moved by a factor of {found}"


@pytest.mark.parametrize("name", PER_LAYER)
def test_scale_of_the_outputs_counts_under_cross_entropy(name: str) -> None:
    model = oracle("cross_entropy")
    found = factor(PER_LAYER[name], model, with_scaled_outputs(model, 8.0))
    assert abs(found - 1) > 1e-2, f"{name} moved by a factor of {found} only"


@pytest.mark.parametrize("name", WITHOUT_BIASES)
def test_shift_of_the_outputs_does_not_count_where_biases_are_left_out(name: str) -> None:
    model = oracle("cross_entropy")
    found = factor(PER_LAYER[name], model, with_shifted_outputs(model, 3.0))
    assert abs(found - 1) <= 1e-10, f"{name} moved by a factor of {found}"


@pytest.mark.parametrize("name", [name for name in PER_LAYER if name not in WITHOUT_BIASES])
def test_shift_of_the_outputs_counts_where_biases_count(name: str) -> None:
    model = oracle("cross_entropy")
    found = factor(PER_LAYER[name], model, with_shifted_outputs(model, 3.0))
    assert abs(found - 1) > 1e-2, f"{name} moved by a factor of {found} only"


def test_normalized_outputs_are_longer_than_those_of_unit_length_by_the_root_of_their_number() -> None:
    """Andriushchenko et al. (2023) divide the centered outputs by their length, (20) by their standard deviation."""
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(30, 7)), rng.integers(7, size=30)
    centered = outputs - outputs.mean(axis=1, keepdims=True)
    unit = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    found = NormalizedCrossEntropy().values(np, outputs, labels)
    expected = CrossEntropy().values(np, 7**0.5 * unit, labels)
    error = np.abs(found - expected).max()
    assert error <= 1e-13, f"losses off by up to {error:.1e}: {found} instead of {expected}"
