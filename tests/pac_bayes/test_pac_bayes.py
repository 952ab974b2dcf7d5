"""The divergences and the terms of the PAC-Bayes bound, against quadrature, SciPy and the numbers of the paper's errata."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from invariant_sharpness import PacBayesBound, ParameterGroup
from invariant_sharpness.pac_bayes import (
    NATS_PER_FLOAT,
    SCALES,
    best_common_variance,
    best_product_variances,
    divergence_at_equal_variances,
    gaussian_divergence,
    hoeffding_term,
    least_divergence,
    number_of_floats,
)

RANDOM = np.random.default_rng(5)
W = RANDOM.normal(size=(3, 4))
V = RANDOM.uniform(0.1, 2, (3, 4))


def matrix(name: str, rows: int, columns: int) -> ParameterGroup:
    return ParameterGroup(name, (rows, columns), "matrix", output_axes=(0,), input_axes=(1,))


def bound(**changes: float) -> PacBayesBound:
    terms = {"stochastic_loss": 0.3, "loss": 0.1, "equal_variances_divergence": 60.0, "floats": 3, "examples": 500}
    chosen = {**terms, "lam": 200.0, "delta": 0.05} | changes
    return PacBayesBound(divergences={"first": 30.0, "second": 12.0}, **chosen)  # type: ignore[arg-type]


def test_divergence_is_the_integral_of_its_definition() -> None:
    prior = RANDOM.uniform(0.5, 3, W.shape)

    def integral(mean: float, posterior: float, prior: float) -> float:
        q, p = norm(mean, sqrt(posterior)), norm(0, sqrt(prior))
        reach = 12 * sqrt(posterior)
        return quad(lambda t: q.pdf(t) * (q.logpdf(t) - p.logpdf(t)), mean - reach, mean + reach, epsabs=1e-12)[0]

    expected = sum(integral(*terms) for terms in zip(W.flat, V.flat, prior.flat, strict=True))
    value = gaussian_divergence(W, V, prior)
    assert value == pytest.approx(expected, rel=1e-9), f"{value} instead of {expected}"


def test_best_common_variance_is_the_minimizer() -> None:
    """Erratum E5: it is not that of the posterior."""
    variance, entries = 0.3, W.size
    posterior = np.full_like(W, variance)
    found = minimize(lambda t: gaussian_divergence(W, posterior, np.full_like(W, np.exp(t[0]))), [0.0], tol=1e-14)
    best = best_common_variance(W, posterior)
    assert best == pytest.approx(np.exp(found.x[0]), rel=1e-6), f"{best}, by SciPy {np.exp(found.x[0])}"
    assert best == pytest.approx(variance + np.sum(W**2) / entries, rel=1e-14)
    least = least_divergence(float(np.sum(W**2)), variance, entries)
    assert least == pytest.approx(found.fun, rel=1e-10), f"{least}, by SciPy {found.fun}"
    printed = divergence_at_equal_variances(W, posterior)
    assert printed == pytest.approx(gaussian_divergence(W, posterior, posterior), rel=1e-12)
    assert printed > 1.1 * least, f"(7) gives {printed}, the least is {least}: no example of the erratum"


def test_best_product_variances_are_the_minimizer() -> None:
    counts = np.array([[2.0, 3.0, 1.0, 4.0]] * 3)
    moments = counts * RANDOM.uniform(0.1, 5, (3, 4))

    def objective(logarithms: np.ndarray) -> float:
        products = np.exp(logarithms[:3, None] + logarithms[3:])
        return float(np.sum(counts * np.log(products) + moments / products))

    expected = minimize(objective, np.zeros(7), tol=1e-12).fun
    products = best_product_variances(moments[None], counts[None])[0]
    value = float(np.sum(counts * np.log(products) + moments / products))
    assert value == pytest.approx(expected, rel=1e-10), f"{value}, by SciPy {expected}"


def test_best_product_variances_move_with_rows_and_columns_bit_by_bit() -> None:
    factors = 2.0 ** RANDOM.integers(-20, 20, (3, 1)) * 2.0 ** RANDOM.integers(-20, 20, (1, 4))
    before = best_product_variances(V[None], np.ones((1, 3, 4)))[0]
    after = best_product_variances((V * factors)[None], np.ones((1, 3, 4)))[0]
    # the first sweep starts from ones, which do not move: the limit does
    assert np.allclose(after, before * factors, rtol=1e-11, atol=0), (
        f"off by {np.max(np.abs(after / before / factors - 1))}"
    )


def test_a_number_in_single_precision_costs_22_nats() -> None:
    assert pytest.approx(22.18, abs=0.005) == NATS_PER_FLOAT
    assert pytest.approx(log(2**32)) == NATS_PER_FLOAT


def test_numbers_of_scales_are_those_of_the_paper() -> None:
    bias = ParameterGroup("bias", (5,), "bias", output_axes=(0,))
    groups = [matrix("first", 5, 7), bias, matrix("second", 3, 5)]
    found = {name: number_of_floats(groups, scales) - bias.size for name, scales in SCALES.items()}
    expected = {"matrix": 2, "row_column": (5 + 7 - 1) + (3 + 5 - 1), "parameter": 35 + 15}
    assert found == expected, f"{found} instead of {expected}"


def test_blocks_of_a_grouped_kernel_have_scales_of_their_own() -> None:
    kernel = ParameterGroup("kernel", (6, 4, 3, 3), "convolution", (0,), (1,), channel_groups=2)
    assert SCALES["row_column"].free(kernel) == 2 * (3 + 4 - 1)


def test_hoeffding_term_is_the_least_for_all_rates() -> None:
    """Erratum E8: with 2 in place of 8 it holds as well, but is four times as large."""
    rates, lambdas = np.linspace(0.01, 0.99, 99)[:, None], np.linspace(0.01, 8, 400)
    exponents = np.log(rates * np.exp(-lambdas * (1 - rates)) + (1 - rates) * np.exp(lambdas * rates))
    ratios = exponents / np.array([hoeffding_term(lam, 1) for lam in lambdas])
    assert ratios.max() <= 1 + 1e-12, f"the term is exceeded by a factor of {ratios.max()}"
    assert ratios.max() >= 0.999, f"the term is never reached: at most {ratios.max()} of it"


def test_terms_add_up() -> None:
    terms = bound()
    expected = 0.3 + (30 + 12 + 3 * 32 * log(2) + log(20) + 200**2 / (8 * 500)) / 200
    assert terms.value == pytest.approx(expected, rel=1e-14), f"{terms.value} instead of {expected}"
    parts = terms.loss + terms.term_b + terms.term_c + terms.confidence
    assert parts == pytest.approx(expected, rel=1e-14), f"(B) and (C) add up to {parts} instead of {expected}"
    with_a = terms.for_the_network_itself(test_loss=0.2, stochastic_test_loss=0.4)
    assert with_a == pytest.approx(expected - 0.2, rel=1e-14), "(4) is (1) with term (A)"


def test_text_and_dictionary_have_the_value_and_both_divergences() -> None:
    terms = bound()
    assert terms.to_dict()["value"] == terms.value
    for number in (terms.value, 42.0, 60.0):
        assert f"{number:.4g}"[:5] in str(terms), f"{number} is missing in {terms}"


def test_bound_holds_on_fresh_samples() -> None:
    r"""A threshold w on uniform x in [0, 1] with the loss 1[x > w], prior N(0, 1), posterior N(median, 0.1^2).

    Its true risk is known, so that the share of samples on which the bound fails can be counted.
    """
    random = np.random.default_rng(1)
    noise = norm.ppf((np.arange(400) + 0.5) / 400)
    failures, slacks = 0, []
    for _ in range(300):
        x = random.random(50)
        w = np.median(x) + 0.1 * noise
        sampled = float(np.mean(x[:, None] > w))
        divergence = gaussian_divergence(np.median(x, keepdims=True), np.full(1, 0.01), np.ones(1))
        terms = PacBayesBound(sampled, 0.0, {"w": divergence}, 0.0, 0, 50, lam=20.0, delta=0.05)
        slacks.append(terms.value - float(np.mean(1 - np.clip(w, 0, 1))))
        failures += slacks[-1] < 0
    assert failures / 300 <= 0.05, f"the bound failed on {failures} of 300 samples; least slack {min(slacks):.3f}"


@pytest.mark.parametrize(
    "change", [{"examples": 0}, {"lam": 0.0}, {"lam": np.inf}, {"delta": 0.0}, {"delta": 1.5}], ids=str
)
def test_terms_out_of_range_are_named(change: dict[str, float]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}="):
        bound(**change)
