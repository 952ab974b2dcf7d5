"""The scale of probes that is best for (17): its own minimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.coordinates.scales import matrix_norms, optimal
from zoo import numpy_problem
from zoo.vectors import flat

PROBLEM = numpy_problem.problem("cross_entropy", False)
H = numpy_problem.dense_hessian("cross_entropy", False)


def best() -> Any:
    return flat(optimal(PROBLEM.oracle, PROBLEM.vector(np.diag(H)).arrays))


def variance(scale: Any, sigma: Any) -> float:
    r"""Of ``sum sigma_i^2 h_i``, with ``h = eps * H (s * eps) / s`` and random signs: the squares of a symmetric form off its diagonal."""
    form = sigma[:, None] ** 2 * H * scale / scale[:, None]
    symmetric = (form + form.T) / 2
    return 2 * float(np.sum(symmetric**2) - np.sum(np.diag(symmetric) ** 2))


def test_formula_of_the_variance_is_that_of_draws() -> None:
    rng = np.random.default_rng(0)
    scale, sigma = flat(balanced(PROBLEM.oracle)), best()
    signs = rng.choice([-1.0, 1.0], size=(20_000, len(H)))
    draws = (signs * ((signs * scale) @ H) / scale) @ sigma**2
    found, expected = float(draws.var()), variance(scale, sigma)
    assert found == pytest.approx(expected, rel=0.05), f"draws have the variance {found}, by the formula {expected}"


@pytest.mark.parametrize("other", [balanced, magnitudes, matrix_norms])
def test_no_other_scale_has_less_variance(other: Any) -> None:
    sigma = best()
    least, found = variance(sigma, sigma), variance(flat(other(PROBLEM.oracle)), sigma)
    assert least < found, f"the variance is {least} with the minimizer of (17), and {found} with {other.__name__}"


def test_no_change_of_the_scale_lowers_the_variance() -> None:
    rng, sigma = np.random.default_rng(1), best()
    least = variance(sigma, sigma)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(50):
            found = variance(sigma * np.exp(size * rng.normal(size=len(sigma))), sigma)
            assert least <= found, f"the variance {least} falls to {found} when the scale changes by {size}"
