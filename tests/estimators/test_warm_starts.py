"""Lanczos' method that begins near an old eigenvector: fewer products, the same eigenvalue, wherever the old one points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.estimators.lanczos import eigenpairs, largest_magnitude_eigenvalue
from invariant_sharpness.estimators.warm_starts import WarmStart
from zoo.estimator_problems import SPECTRA, QuadraticOracle, digits_hessian, digits_oracle, symmetric
from zoo.vectors import flat

SIZE, TOLERANCE = 120, 1e-6


def unit(oracle: QuadraticOracle, index: int) -> ish.ParameterVector:
    return oracle._cut(np.eye(len(oracle.hessian))[index])


def diagonal(top: float, bulk: str = "polynomial") -> QuadraticOracle:
    """A bulk below 1, the eigenvalue 1 of the first unit vector, and a larger one of the second."""
    return QuadraticOracle(np.diag([1.0, top, *0.6 * SPECTRA[bulk](np.arange(SIZE - 2)) / 2.2]))


def slowly_turned() -> Any:
    """Hessians of a network that change a little from one to the next, in their eigenvectors and their sizes."""
    H = digits_hessian()
    skew = np.random.default_rng(0).normal(size=H.shape) / np.sqrt(len(H))
    turn = np.linalg.qr(np.eye(len(H)) + 0.05 * (skew - skew.T) / 2)[0]
    for step in range(6):
        yield H * (1 + 0.03 * step)
        H = turn @ H @ turn.T


def test_slowly_changing_hessians_take_fewer_products_and_have_the_same_eigenvalues() -> None:
    """The first call begins at random."""
    expected = np.abs(np.linalg.eigvalsh(digits_hessian())).max()
    oracle = digits_oracle()
    for tolerance, share in ((1e-3, 0.75), (1e-6, 0.9)):
        start, products = WarmStart(), []
        for step, H in enumerate(slowly_turned()):
            oracle.hessian = H
            options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": 200, "seed": 0}
            warm, cold = (largest_magnitude_eigenvalue(oracle, **options, start=one) for one in (start, None))
            errors = [abs(found.value / (expected * (1 + 0.03 * step)) - 1) for found in (warm, cold)]
            assert warm.converged
            assert max(errors) <= tolerance, f"errors {errors} of the values, warm and cold"
            products.append([warm.steps, cold.steps])
        taken = np.sum(products[1:], axis=0)
        assert taken[0] <= share * taken[1], f"products near the last eigenvector and from random vectors: {products}"


@pytest.mark.parametrize("top", [1.001, 1.1, 3.0, -1.1])
@pytest.mark.parametrize("bulk", ["flat", "polynomial", "indefinite"])
def test_an_eigenvector_orthogonal_to_the_leading_one_does_no_harm(top: float, bulk: str) -> None:
    """The start is an eigenvector itself: without a random part the iteration would stop at it after one product."""
    oracle = diagonal(top, bulk)
    for seed in range(10):
        start = WarmStart(unit(oracle, 0))
        found = largest_magnitude_eigenvalue(oracle, tolerance=TOLERANCE, max_iterations=200, seed=seed, start=start)
        assert found.value == pytest.approx(top, rel=TOLERANCE), f"{found} with seed {seed} instead of {top}"


def test_what_a_start_can_hide_is_bounded_by_the_tolerance() -> None:
    """Closer and closer eigenvalues: the smaller one is returned only where the difference is that of the docstring, or less."""
    hidden = 0
    for gap in np.logspace(-6, -2, 9):
        for seed in range(5):
            oracle = diagonal(1 + gap)
            start = WarmStart(unit(oracle, 0))
            found = largest_magnitude_eigenvalue(oracle, tolerance=1e-4, max_iterations=200, seed=seed, start=start)
            drawn = flat(prng.uniform(oracle, seed, 0))
            bound = 10 * 1e-4 / abs(drawn[1] / np.linalg.norm(drawn))
            missed = 1 + gap - found.value
            hidden += missed > gap / 2
            assert missed <= bound, (
                f"{found.value} instead of {1 + gap} with seed {seed}: {missed:.1e} above {bound:.1e}"
            )
    assert hidden, "no eigenvalue was hidden: the bound is not tested"


def test_the_eigenvector_is_left_in_the_start() -> None:
    oracle = QuadraticOracle(symmetric(SPECTRA["indefinite"](np.arange(60))))
    values, vectors = np.linalg.eigh(oracle.hessian)
    for options, index in (({"largest": 2, "smallest": 1}, -1), ({"largest": 0, "smallest": 2}, 0)):
        start = WarmStart()
        eigenpairs(oracle, start=start, tolerance=1e-9, **options)
        assert start.vector is not None
        overlap = abs(flat(start.vector) @ vectors[:, index])
        assert overlap == pytest.approx(1, abs=1e-9), f"{options}: {overlap} with the eigenvector of {values[index]}"


def test_several_pairs_from_a_start_are_the_same() -> None:
    oracle = digits_oracle()
    expected = np.linalg.eigvalsh(oracle.hessian)[::-1][:3]
    start = WarmStart()
    for _ in range(2):
        found = eigenpairs(oracle, largest=3, smallest=0, start=start)
        np.testing.assert_allclose([pair.value for pair in found.largest], expected, rtol=1e-6)


def test_a_vector_of_other_parameters_is_no_start() -> None:
    oracle, other = diagonal(2.0), QuadraticOracle(np.eye(30))
    start = WarmStart(unit(other, 3))
    assert ish.hessian_spectral_norm(oracle, start=start) == ish.hessian_spectral_norm(oracle)
    assert start.vector is not None
    assert start.vector.form == oracle.parameters.form, "the next call has a start that fits"


def test_preconditioned_sharpness_begins_near_a_start() -> None:
    oracle = digits_oracle()
    arrays = {group.name: np.full(group.shape, 4.0) for group in oracle.groups}
    state = ish.OptimizerState("RMSprop", dict.fromkeys(arrays, 0.1), arrays)
    start = WarmStart()
    cold, warm = (ish.preconditioned_sharpness(oracle, optimizer=state, start=start) for _ in range(2))
    assert warm.value == pytest.approx(cold.value, rel=1e-6)
    products = [int(found.method.split()[-2]) for found in (cold, warm)]
    assert products[1] < products[0], f"{products[1]} products near the eigenvector, {products[0]} before"
