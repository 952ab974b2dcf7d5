"""Lanczos quadrature against dense eigenvalues: moments, norms, brackets and densities."""

from __future__ import annotations

import json

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.gauss_rules import rules_with_the_same_moments
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.lanczos_quadrature import schatten_norm, spectral_density
from zoo.estimator_problems import (
    SPECTRA,
    QuadraticOracle,
    digits_hessian,
    digits_oracle,
    of_rank,
    symmetric,
    with_spectrum,
)
from zoo.vectors import flat

every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA)


@every_spectrum
def test_moments_of_each_probe_are_exact_below_twice_the_steps(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    rules = spectral_density(oracle, probes=3, steps=4, seed=1).rules
    for index, rule in enumerate(rules):
        u = flat(ish.prng.signs(oracle, 1, index)) / 60**0.5
        found = [rule.weights @ rule.nodes**k for k in range(8)]
        expected = [u @ np.linalg.matrix_power(A, k) @ u for k in range(8)]
        assert np.allclose(found, expected, rtol=1e-10, atol=1e-13), f"moments {found} instead of {expected}"


@every_spectrum
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_schatten_norms_are_within_their_errors(spectrum: str, p: float) -> None:
    eigenvalues = SPECTRA[spectrum](np.arange(60))
    expected = float(np.sum(np.abs(eigenvalues) ** p) ** (1 / p))
    estimate = schatten_norm(QuadraticOracle(symmetric(eigenvalues)), p, probes=20, steps=25)
    low, high = estimate.interval(0.999)
    assert low <= expected <= high, f"{estimate}, but the norm is {expected}"
    assert estimate.converged, str(estimate.notes)


@every_spectrum
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("kink", [0.0, 0.3, -5.0])
def test_rules_with_the_same_moments_bracket_a_function_with_a_kink(spectrum: str, steps: int, kink: float) -> None:
    """What the dense matrix gives for each probe, of the absolute value and of what is above the kink."""
    eigenvalues, vectors = np.linalg.eigh(with_spectrum(spectrum))
    oracle = QuadraticOracle(with_spectrum(spectrum))
    for index, projection in enumerate(spectral_density(oracle, probes=3, steps=steps).projections):
        weights = (vectors.T @ flat(ish.prng.signs(oracle, 0, index))) ** 2 / 60
        for function in (lambda x: np.abs(x - kink), lambda x: np.maximum(x - kink, 0)):
            rules = rules_with_the_same_moments(projection, kink)
            values = [rule.weights @ function(rule.nodes) for rule in rules]
            truth = weights @ function(eigenvalues)
            assert min(values) - 1e-9 <= truth <= max(values) + 1e-9, (
                f"{truth} is not from {min(values)} to {max(values)}"
            )


@every_spectrum
def test_all_those_rules_have_the_moments_of_the_probe(spectrum: str) -> None:
    A = with_spectrum(spectrum)
    oracle = QuadraticOracle(A)
    u = flat(ish.prng.signs(oracle, 0, 0)) / 60**0.5
    expected = np.array([u @ np.linalg.matrix_power(A, k) @ u for k in range(7)])
    for rule in rules_with_the_same_moments(spectral_density(oracle, probes=2, steps=3).projections[0], 0.0)[1:]:
        found = np.array([rule.weights @ rule.nodes**k for k in range(7)])
        assert np.allclose(found, expected, rtol=1e-6, atol=1e-9), f"moments {found} instead of {expected}"


@pytest.mark.slow
def test_quadrature_that_can_be_off_by_more_than_the_error_says_so() -> None:
    A = symmetric(np.linspace(-1, 1, 40))
    few, many = (schatten_norm(QuadraticOracle(A), 1, probes=400, steps=steps) for steps in (2, 30))
    assert not few.converged, str(few)
    assert "more than the standard error: take more steps" in few.notes[0]
    assert many.converged, str(many.notes)
    assert few.bracket is not None
    assert few.interval()[0] < few.bracket.lower < few.bracket.upper < few.interval()[1], str(few)


@pytest.mark.slow
def test_known_eigenvalues_take_most_of_the_error_away() -> None:
    oracle, eigenvalues = digits_oracle(), np.linalg.eigvalsh(digits_hessian())
    known = eigenpairs(oracle, largest=12, smallest=0)
    expected = float(np.abs(eigenvalues).sum())
    plain, better = (schatten_norm(oracle, 1, probes=8, steps=25, eigenpairs=pairs) for pairs in (None, known))
    low, high = better.interval(0.999)
    assert low <= expected <= high, f"{better}, but the norm is {expected}"
    assert (better.standard_error or 0) < (plain.standard_error or 0) / 5, f"{plain} and {better}"


def test_known_eigenvalues_count_with_the_others() -> None:
    A = with_spectrum("flat")
    density = spectral_density(
        QuadraticOracle(A), probes=3, steps=9, eigenpairs=eigenpairs(QuadraticOracle(A), largest=55)
    )
    for order in range(4):
        expected = float(np.mean(np.linalg.eigvalsh(A) ** order))
        low, high = density.moment(order).interval(0.999)
        assert low - 1e-9 <= expected <= high + 1e-9, f"{density.moment(order)}, but it is {expected}"
    assert density.cumulative().values[-1] == pytest.approx(1, abs=1e-12)


def test_known_pairs_that_have_not_converged_are_refused() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    with pytest.raises(ValueError, match="only eigenpairs that have converged can be taken out"):
        spectral_density(oracle, eigenpairs=eigenpairs(oracle, largest=2, smallest=0, num_matvecs=6))


def test_knowing_all_eigenvalues_leaves_nothing_to_probe() -> None:
    oracle = QuadraticOracle(np.diag(np.arange(1.0, 9)))
    with pytest.raises(ValueError, match="all 8 eigenvalues are known"):
        spectral_density(oracle, eigenpairs=eigenpairs(oracle, largest=5, smallest=3))


@pytest.mark.parametrize("p", [0.5, np.inf, np.nan])
def test_exponents_that_make_no_norm_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match=f"p={p}, but p is at least 1 and finite"):
        schatten_norm(QuadraticOracle(np.eye(8)), p, probes=2, steps=2)


def test_low_rank_ends_the_recursion_with_an_exact_rule() -> None:
    density = spectral_density(QuadraticOracle(of_rank(3)), probes=4, steps=20)
    lengths = [len(rule.nodes) for rule in density.rules]
    assert lengths == [4] * 4, f"rules of {lengths} nodes for three eigenvalues and zero"
    outer = {round(float(node), 9) for rule in density.rules for node in rule.nodes}
    assert outer == {-1.0, 0.0, 1.0, 3.0}, f"the nodes are {outer}"


def test_moments_that_the_steps_do_not_tell_are_refused() -> None:
    density = spectral_density(QuadraticOracle(with_spectrum("flat")), probes=2, steps=3)
    with pytest.raises(ValueError, match="order=6, but 3 steps tell the moments from 0 to 5"):
        density.moment(6)


def test_density_is_the_smoothed_dense_one_within_its_errors() -> None:
    eigenvalues = SPECTRA["flat"](np.arange(60))
    curve = spectral_density(QuadraticOracle(symmetric(eigenvalues)), probes=60, steps=30).density(width=0.1)
    kernel = np.exp(-(((curve.grid[:, None] - eigenvalues) / 0.1) ** 2) / 2) / (0.1 * (2 * np.pi) ** 0.5)
    off = np.abs(curve.values - kernel.mean(axis=1)) / np.maximum(curve.standard_errors, 1e-3)
    assert off.max() <= 4, f"{off.max():.1f} standard errors off at {curve.grid[off.argmax()]:.3g}"
    area = np.trapezoid(curve.values, curve.grid)
    assert area == pytest.approx(1, abs=0.01), f"the density integrates to {area}"


@pytest.mark.slow
def test_cumulative_share_rises_from_zero_to_one_and_is_right_within_its_errors() -> None:
    eigenvalues = SPECTRA["flat"](np.arange(60))
    density = spectral_density(QuadraticOracle(symmetric(eigenvalues)), probes=60, steps=60)
    curve = density.cumulative(np.array([0.5, 1.1, 1.3, 1.5, 2.0]))
    expected = np.mean(eigenvalues <= curve.grid[:, None], axis=1)
    off = np.abs(curve.values - expected) / np.maximum(curve.standard_errors, 1e-9)
    assert off.max() <= 4, f"{curve.values} instead of {expected}, {off.max():.1f} standard errors off"
    everywhere = density.cumulative().values
    assert (np.diff(everywhere) >= -1e-12).all(), "the share falls somewhere"
    assert everywhere[-1] == pytest.approx(1, abs=1e-12)


def test_probes_in_small_batches_give_the_same_rules() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    whole = spectral_density(oracle, probes=5, steps=6)
    with ish.memory_limit(480 * 21):
        parts = spectral_density(oracle, probes=5, steps=6)
    for first, second in zip(whole.rules, parts.rules, strict=True):
        assert np.allclose(first.nodes, second.nodes, rtol=1e-10), f"{first.nodes} and {second.nodes}"


def test_steps_that_do_not_fit_into_memory_are_refused() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    message = r"spectral_density\(steps=30\) holds 31 vectors of 480 bytes, and the memory limit of 4800 bytes"
    with ish.memory_limit(4800), pytest.raises(ValueError, match=message):
        spectral_density(oracle, steps=30)


@pytest.mark.parametrize(("probes", "steps", "message"), [(1, 9, "probes=1"), (2, 0, "steps=0")])
def test_too_few_probes_or_steps_are_refused(probes: int, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectral_density(QuadraticOracle(np.eye(8)), probes=probes, steps=steps)


def test_density_becomes_plain_numbers() -> None:
    density = spectral_density(QuadraticOracle(with_spectrum("flat")), probes=2, steps=3)
    plain = json.loads(json.dumps(density.to_dict()))
    assert plain["rules"][1]["nodes"] == density.rules[1].nodes.tolist()
    assert json.loads(json.dumps(density.density().to_dict()))["width"] == density.density().width
    assert not any("\n" in str(thing) for thing in (density, density.density(), density.moment(2)))


def test_picture_shows_the_density_and_its_band() -> None:
    pytest.importorskip("matplotlib")
    density = spectral_density(QuadraticOracle(with_spectrum("flat")), probes=4, steps=8)
    axes = density.plot()
    assert density.plot(axes) is axes
    drawn = axes.lines[0].get_ydata()
    expected = density.density().values
    shown = expected > axes.get_ylim()[0]
    assert np.allclose(np.asarray(drawn)[shown], expected[shown]), "the line is not the density"
    assert axes.get_yscale() == "log"
    assert len(axes.collections) == 2, "one band for each drawing"
