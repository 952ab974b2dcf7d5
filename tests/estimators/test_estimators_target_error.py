"""A given error: reached as often as it says, without a bias, and never silently missed."""

from __future__ import annotations

import numpy as np
import pytest

from invariant_sharpness.estimators.target_error import hutchinson_trace_within, mean_within
from zoo.estimator_problems import QuadraticOracle, signs, with_spectrum

PILOT = 8


def test_value_is_the_mean_of_the_draws_after_the_pilot() -> None:
    A = with_spectrum("polynomial")
    oracle = QuadraticOracle(A)
    estimate = hutchinson_trace_within(oracle, relative_error=0.1, pilot_probes=PILOT, seed=1)
    U = signs(oracle, oracle.multiplied, seed=1)[:, PILOT:]
    forms = np.sum(U * (A @ U), axis=0)
    assert estimate.value == pytest.approx(forms.mean(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(forms.std(ddof=1) / len(forms) ** 0.5, rel=1e-12)


def test_pilot_fixes_the_number_by_the_upper_limit_of_the_variance() -> None:
    from scipy.stats import chi2

    A = with_spectrum("polynomial")
    oracle = QuadraticOracle(A)
    hutchinson_trace_within(oracle, relative_error=0.1, pilot_probes=PILOT, seed=1)
    U = signs(oracle, PILOT, seed=1)
    forms = np.sum(U * (A @ U), axis=0)
    variance = (PILOT - 1) * forms.var(ddof=1) / chi2.ppf(0.05, PILOT - 1)
    expected = PILOT + int(np.ceil(variance / (0.1 * forms.mean()) ** 2))
    assert oracle.multiplied == expected, f"{oracle.multiplied} products instead of {expected}"


def test_value_has_no_bias_and_the_error_is_mostly_reached() -> None:
    """Stopping when the running mean looks still has a bias, since it prefers small draws: here, of skewed numbers, there is none."""
    rng = np.random.default_rng(0)
    estimates = [
        mean_within(
            lambda indices: rng.standard_exponential(len(indices)),
            name="mean",
            relative_error=0.2,
            pilot_draws=PILOT,
            num_draws=10_000,
        )
        for _ in range(2000)
    ]
    values = np.array([estimate.value for estimate in estimates])
    off = (values.mean() - 1) / (values.std(ddof=1) / 2000**0.5)
    assert abs(off) < 4, f"the mean of 2000 values is {off:.1f} standard errors off"
    reached = np.mean([estimate.converged for estimate in estimates])
    assert reached >= 0.8, f"the error was reached in {reached:.0%} of the runs"


def test_error_that_the_products_do_not_reach_is_reported() -> None:
    oracle = QuadraticOracle(with_spectrum("indefinite"))
    estimate = hutchinson_trace_within(oracle, relative_error=0.001, pilot_probes=PILOT, num_matvecs=40)
    assert oracle.multiplied == 40
    assert not estimate.converged
    assert "instead of 0.001 after 40 draws of at most 40" in estimate.notes[0]
    assert "NOT CONVERGED" in str(estimate)


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_draws_without_scatter_need_no_more_than_the_pilot(scale: float) -> None:
    oracle = QuadraticOracle(scale * np.eye(20))
    estimate = hutchinson_trace_within(oracle, pilot_probes=PILOT)
    assert (estimate.value, estimate.standard_error, estimate.converged) == (20 * scale, 0, True), str(estimate)
    assert oracle.multiplied == 2 * PILOT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relative_error": 0.0}, "relative_error=0.0"),
        ({"relative_error": np.nan}, "relative_error=nan"),
        ({"pilot_probes": 3}, "num_matvecs=3, but the pilot of hutchinson_trace_within .* at least 4"),
        ({"pilot_probes": 8, "num_matvecs": 15}, "num_matvecs=15, but hutchinson_trace_within .* at least 16"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hutchinson_trace_within(QuadraticOracle(np.eye(20)), **options)
