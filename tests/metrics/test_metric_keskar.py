"""The epsilon-sharpness of Keskar et al., against SciPy alone with the plain loss, corners of boxes, and its laws."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from scipy.optimize import minimize

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.coordinates import magnitudes
from invariant_sharpness.errors import LossError
from zoo import complex_step
from zoo.rises import problem, quadratic, random_quadratic, rescaled
from zoo.seeds import seeds
from zoo.vectors import flat


def by_scipy(basis: np.ndarray, reach: np.ndarray) -> float:
    """The paper's recipe from scratch: derivatives by complex steps, ten iterations of L-BFGS-B."""
    p = problem()
    options = {"maxiter": 10, "ftol": 0.0, "gtol": 0.0}
    run = minimize(
        lambda z: -float(p.mean_loss((p.theta + basis @ z)[None]).item()),
        np.zeros(len(reach)),
        jac=lambda z: -basis.T @ complex_step.gradient(p.mean_loss, p.theta + basis @ z),
        bounds=list(zip(-reach, reach, strict=True)),
        method="L-BFGS-B",
        options=options,
    )
    loss = float(p.mean_loss(p.theta[None]).item())
    return 100 * (-run.fun - loss) / (1 + loss)


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4])
def test_value_is_that_of_the_paper_recipe(epsilon: float) -> None:
    size = problem().theta.size
    expected = by_scipy(np.eye(size), epsilon * (np.abs(problem().theta) + 1))
    found = ish.keskar_sharpness(problem().oracle, epsilon=epsilon).value
    assert found == pytest.approx(expected, rel=1e-7), f"{found} instead of {expected}"


@pytest.mark.parametrize("scale", [1.0, 0.2])
@pytest.mark.parametrize("columns", [7, 100])
def test_value_in_a_subspace_is_that_of_the_paper_recipe(columns: int, scale: float) -> None:
    """A pseudoinverse by singular values; with 100 columns there are more of them than parameters."""
    oracle, theta = problem().oracle, problem().theta
    A = scale * np.stack([flat(prng.normals(oracle, 3, j)) for j in range(columns)], axis=1)
    expected = by_scipy(A, 1e-3 * (np.abs(np.linalg.pinv(A) @ theta) + 1))
    found = ish.keskar_subspace_sharpness(oracle, columns=columns, column_scale=scale, seed=3).value
    assert found == pytest.approx(expected, rel=1e-6), f"{found} instead of {expected}"


@seeds(4)
def test_it_is_not_above_the_best_corner(seed: int) -> None:
    """A convex quadratic has its maximum at a corner, and ten iterations find that of a loss that is nearly linear."""
    g, _ = random_quadratic(seed)
    root = np.random.default_rng(seed).normal(size=(6, 6))
    oracle = quadratic(g, root @ root.T)
    corners = 1e-3 * (np.arange(1, 7) + 1) * np.array(list(product([-1, 1], repeat=6)))
    rises = corners @ g + np.einsum("ni,ij,nj->n", corners, root @ root.T, corners) / 2
    expected = 100 * float(rises.max()) / 1.5
    found = ish.keskar_sharpness(oracle).value
    assert found == pytest.approx(expected, rel=1e-9), f"{found}, but the best of 64 corners has {expected}"


def test_certificate_is_zero_at_a_corner_and_positive_before_it() -> None:
    done = ish.keskar_sharpness(quadratic(np.ones(3), np.eye(3)))
    short = ish.keskar_sharpness(problem().oracle, epsilon=0.5, max_iterations=1)
    assert done.certificate == 0, f"certificate {done.certificate} at the best corner"
    assert short.certificate, f"certificate {short.certificate} after one iteration"


def test_it_says_that_it_is_a_lower_bound() -> None:
    found = ish.keskar_sharpness(problem().oracle)
    assert found.interval() == (found.value, inf), f"interval {found.interval()}"


def test_a_gradient_below_the_tolerances_of_the_optimizer_does_not_stop_it() -> None:
    """With SciPy's defaults the search would end where it starts, at a gradient of 1e-6."""
    found = ish.keskar_sharpness(quadratic(np.full(2, 1e-6), np.zeros((2, 2)))).value
    expected = 100 * 1e-6 * 1e-3 * (2 + 3) / 1.5
    assert found == pytest.approx(expected, rel=1e-6), f"{found}, but the best corner has {expected}"


def test_it_moves_under_rescaling() -> None:
    before, after = (ish.keskar_sharpness(o).value for o in (problem().oracle, rescaled(problem().oracle)))
    assert max(before, after) > 1.5 * min(before, after), f"{before} became {after}: the counterexample is none"


def test_the_value_in_a_subspace_moves_under_rescaling() -> None:
    before, after = (ish.keskar_subspace_sharpness(o).value for o in (problem().oracle, rescaled(problem().oracle)))
    assert max(before, after) > 1.5 * min(before, after), f"{before} became {after}: the counterexample is none"


@pytest.mark.parametrize("metric", [ish.keskar_sharpness, ish.keskar_subspace_sharpness])
def test_it_is_bitwise_invariant_in_relative_coordinates(metric: object) -> None:
    assert callable(metric)
    before, after = (metric(ish.Scaled(o, magnitudes(o))) for o in (problem().oracle, rescaled(problem().oracle)))
    assert before == after, f"{before!r} became {after!r}"


def test_in_relative_coordinates_the_box_is_a_fraction_of_the_parameters() -> None:
    """``|y_i| <= epsilon |theta_i|``, for half of epsilon: of a linear loss the best corner is known."""
    theta, g = np.array([0.5, -3.0, 20.0]), np.array([1.0, 2.0, -0.1])
    oracle = quadratic(g, np.zeros((3, 3)), point=theta)
    found = ish.keskar_sharpness(ish.Scaled(oracle, magnitudes(oracle)), epsilon=1e-3 / 2).value
    expected = 100 * 1e-3 * float(np.abs(theta) @ np.abs(g)) / 1.5
    assert found == pytest.approx(expected, rel=1e-9), f"{found} instead of {expected}"


def test_reach_in_a_subspace_is_proportional_to_the_scale_of_the_columns() -> None:
    """Of a linear loss without A+ theta, the parameters being zero."""
    oracle = quadratic(np.ones(6), np.zeros((6, 6)), point=np.zeros(6))
    one, ten = (ish.keskar_subspace_sharpness(oracle, columns=3, column_scale=s).value for s in (1.0, 10.0))
    assert ten == pytest.approx(10 * one, rel=1e-9), f"{one} for a scale of 1, {ten} for 10"


def test_subspace_that_does_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="keskar_subspace_sharpness"), ish.memory_limit(1000):
        ish.keskar_subspace_sharpness(problem().oracle)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"column_scale": -1.0}, {"columns": 0}, {"max_iterations": 0}])
def test_wrong_options_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ish.keskar_subspace_sharpness(problem().oracle, **wrong)


def test_negative_loss_is_refused() -> None:
    with pytest.raises(LossError, match="add a constant to the loss"):
        ish.keskar_sharpness(quadratic(np.ones(2), np.eye(2), loss=-2.0))
