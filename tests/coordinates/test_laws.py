"""How gradients, spectra and norms move when units or layers are rescaled: by laws, and some of them not at all."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.coordinates.scales import matrix_norms
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo import complex_step, numpy_problem
from zoo.rises import factors, rescaled
from zoo.vectors import assert_close, flat

SIZES = (4, 6, 5, 3)


def oracle() -> NetworkOracle:
    """Without biases."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)) for m, n in pairwise(SIZES)]
    return NetworkOracle(ReluNetwork(weights), rng.normal(size=(40, 4)), rng.integers(3, size=40))


def layers_rescaled(model: NetworkOracle) -> ish.Moved:
    """By one factor per layer, with product 1."""
    arrays = model.to_numpy(model.parameters)
    by = dict(zip(arrays, (8.0, 0.25, 0.5), strict=True))
    return ish.Moved(model, model.from_numpy({name: by[name] * array for name, array in arrays.items()}))


def units_rescaled(model: NetworkOracle) -> ish.Moved:
    """By one factor per hidden unit, between 1/4 and 4."""
    rng, parameters = np.random.default_rng(1), model.parameters
    for rescaling, width in zip(chain_rescalings(model.groups), SIZES[1:-1], strict=True):
        parameters = rescaling.apply(model, parameters, np.ldexp(1.0, rng.integers(-2, 3, size=width)))
    return ish.Moved(model, parameters)


def block(model: Any, names: list[str]) -> Any:
    """The Hessian of these groups, column by column."""
    columns = []
    for name in names:
        for index in np.ndindex(*model.to_numpy(model.parameters)[name].shape):
            unit = {g.name: np.zeros(g.shape) for g in model.groups}
            unit[name][index] = 1.0
            product = model.to_numpy(model.hessian_vector_product(model.parameters, model.from_numpy(unit)))
            columns.append(np.concatenate([product[key].ravel() for key in names]))
    return np.stack(columns)


def whole(model: Any) -> Any:
    return block(model, [group.name for group in model.groups])


def test_gradient_is_divided_by_what_the_parameters_are_multiplied_by() -> None:
    """At a point that is no minimum, by complex steps there."""
    problem = numpy_problem.problem("cross_entropy", True)
    there = rescaled(problem.oracle)
    before = complex_step.gradient(problem.mean_loss, problem.theta)
    expected = before / flat(factors(problem.oracle.parameters, there.parameters))
    found = flat(there.gradient(there.parameters))
    assert_close(found, expected, "gradient of the rescaled network", 1e-12)


def signs(eigenvalues: Any) -> tuple[int, int]:
    """How many are positive, and how many negative: those beyond a tiny share of the largest, far from all others."""
    zero = 1e-11 * np.abs(eigenvalues).max()
    return int((eigenvalues > zero).sum()), int((eigenvalues < -zero).sum())


def test_numbers_of_positive_and_negative_eigenvalues_stay() -> None:
    """Sylvester's law of inertia."""
    before, after = (np.linalg.eigvalsh(whole(o)) for o in (oracle(), units_rescaled(oracle())))
    assert signs(before) == signs(after), f"{signs(before)} positive and negative eigenvalues became {signs(after)}"
    assert min(signs(before)) > 0, f"{signs(before)} positive and negative eigenvalues: a case too easy"


def test_number_of_eigenvalues_above_a_threshold_moves() -> None:
    before, after = (np.linalg.eigvalsh(whole(o)) for o in (oracle(), units_rescaled(oracle())))
    counts = [int((values > 1).sum()) for values in (before, after)]
    assert counts[0] != counts[1], f"{counts} eigenvalues above 1: they should not agree"


@pytest.mark.parametrize("layer", range(3))
def test_contrastive_ratio_of_one_layer_stays_under_layer_rescaling_alone(layer: int) -> None:
    """Numerator and denominator have the same factor, as long as it is one factor."""
    model = oracle()
    name = model.groups[layer].name

    def norm_of_layer(part: Any) -> ish.Estimate:
        return ish.Estimate(f"spectral norm of {name}", float(np.linalg.norm(block(part, [name]), 2)), "dense")

    before, layers, units = (
        ish.contrastive_ratio(o, measure=norm_of_layer, minibatches=4).value
        for o in (model, layers_rescaled(model), units_rescaled(model))
    )
    assert layers == pytest.approx(before, rel=1e-12), f"the ratio of {name} moved from {before} to {layers}"
    assert abs(units / before - 1) > 1e-3, f"the ratio of {name} stayed at {before} when units were rescaled"


def in_lengths_of_the_matrices(model: ish.CurvatureOracle) -> ish.Scaled:
    """Frobenius norms as the scale of all entries."""
    arrays = model.to_numpy(matrix_norms(model))
    return ish.Scaled(model, model.from_numpy({name: array * array.size**0.5 for name, array in arrays.items()}))


def test_spectral_norm_in_lengths_of_the_matrices_is_that_of_rangamani_et_al() -> None:
    """The largest eigenvalue in the metric ``sum_l <a_l, b_l> / |W_l|_F^2``: that of ``|W_l|_F^2 H``, row by row."""
    model = oracle()
    squares = np.concatenate([np.full(W.size, np.sum(W**2)) for W in model.to_numpy(model.parameters).values()])
    expected = np.abs(np.linalg.eigvals(squares[:, None] * whole(model))).max()
    found = ish.hessian_spectral_norm(in_lengths_of_the_matrices(model)).value
    assert found == pytest.approx(float(expected), rel=1e-6), f"{found} instead of {expected}"


def test_spectral_norm_in_lengths_of_the_matrices_stays_under_layer_rescaling_alone() -> None:
    model = oracle()
    before, layers, units = (
        ish.hessian_spectral_norm(in_lengths_of_the_matrices(o)).value
        for o in (model, layers_rescaled(model), units_rescaled(model))
    )
    assert layers == pytest.approx(before, rel=1e-6), f"it moved from {before} to {layers} under layer rescaling"
    assert abs(units / before - 1) > 1e-2, f"it stayed at {before} when units were rescaled"
