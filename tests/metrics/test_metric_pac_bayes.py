"""The PAC-Bayes bound of a network: every term against a dense Hessian, an own forward pass and closed forms."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, MissingCapabilityError
from invariant_sharpness.prng import normals
from invariant_sharpness.symmetries import UnitRescaling
from invariant_sharpness_numpy import FunctionOracle
from zoo.invariant_metrics import relative_change
from zoo.numpy_problem import EXAMPLES, dense_hessian, problem, random_data
from zoo.problems import Problem, problems

LABELS = random_data("cross_entropy")[1]
WEIGHTS = ("layers.0.weight", "layers.1.weight", "layers.2.weight")


def oracle() -> Any:
    return problem("cross_entropy", True).oracle


def matrix_variances(lam: float) -> dict[str, float]:
    """(11) with the half of Taylor's formula, from a dense Hessian."""
    p = problem("cross_entropy", True)
    h = oracle().to_numpy(p.vector(np.diag(dense_hessian("cross_entropy", True))))
    return {n: sqrt(np.sum(oracle().parameters[n] ** 2) / (lam * np.sum(h[n]))) for n in WEIGHTS}


def error_rate(parameters: dict[str, Any], x: Any) -> float:
    for layer in range(3):
        x = x @ parameters[f"layers.{layer}.weight"].T + parameters[f"layers.{layer}.bias"]
        x = np.maximum(x, 0) if layer < 2 else x
    return float(np.mean(x.argmax(axis=1) != LABELS))


def test_every_term_of_one_scale_per_matrix() -> None:
    lam, delta, draws = 40.0, 0.1, 6
    terms = ish.pac_bayes_terms(oracle(), labels=LABELS, scales="matrix", lam=lam, delta=delta, draws=draws, seed=2)
    weights, variances = oracle().to_numpy(oracle().parameters), matrix_variances(lam)
    x, _ = random_data("cross_entropy")
    losses = []
    for index in range(draws):
        noise = oracle().to_numpy(normals(oracle(), 2, index))
        noise = {n: sqrt(variances[n]) * e if n in variances else 0 * e for n, e in noise.items()}
        pair = [error_rate({n: w + sign * noise[n] for n, w in weights.items()}, x) for sign in (1, -1)]
        losses.append(sum(pair) / 2)
    squares = {n: float(np.sum(weights[n] ** 2)) for n in WEIGHTS}
    k = {n: weights[n].size for n in WEIGHTS}
    expected = {
        "stochastic_loss": np.mean(losses),
        "standard_error": np.std(losses, ddof=1) / sqrt(draws),
        "loss": error_rate(weights, x),
        "divergence": sum(k[n] / 2 * log(1 + squares[n] / (k[n] * variances[n])) for n in WEIGHTS),
        "equal_variances_divergence": sum(squares[n] / (2 * variances[n]) for n in WEIGHTS),
        "floats": 3 + 5 + 3 + 3,
        "examples": EXAMPLES,
        "confidence": (log(10) + lam**2 / (8 * EXAMPLES)) / lam,
    }
    found = terms.to_dict()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-8), f"{name} is {found[name]} instead of {value}"


def test_value_is_that_of_the_terms() -> None:
    estimate, terms = ish.pac_bayes_bound(oracle(), seed=3), ish.pac_bayes_terms(oracle(), seed=3)
    assert estimate.value == terms.value
    assert estimate.standard_error == terms.standard_error
    assert str(terms) in estimate.notes, estimate.notes


def test_default_lambda_and_number_of_examples_are_those_of_the_data() -> None:
    terms = ish.pac_bayes_terms(oracle())
    assert (terms.examples, terms.lam) == (EXAMPLES, float(EXAMPLES)), str(terms)


def test_more_scales_have_less_divergence_and_more_floats() -> None:
    matrix, product, parameter = (
        ish.pac_bayes_terms(oracle(), scales=scales) for scales in ("matrix", "row_column", "parameter")
    )
    assert matrix.floats < product.floats < parameter.floats
    for terms in (matrix, product, parameter):
        assert terms.divergence < terms.equal_variances_divergence, f"the best prior is worse than (7): {terms}"


def test_a_loss_that_may_exceed_one_is_said_to_be_no_bound() -> None:
    assert any("labels=" in note for note in ish.pac_bayes_bound(oracle()).notes)
    assert not any("labels=" in note for note in ish.pac_bayes_bound(oracle(), labels=LABELS).notes)


@pytest.mark.parametrize("scales", ["row_column", "parameter"])
@given(problem=problems())
def test_value_does_not_move_under_row_and_column_rescaling(scales: Any, problem: Problem) -> None:
    before, after = (ish.pac_bayes_bound(o, scales=scales, draws=3).value for o in (problem.oracle, problem.moved))
    change = relative_change(before, after)
    assert change <= 1e-9, f"it moved from {before!r} to {after!r} ({change:.1e}) on {problem}"


def test_value_of_one_scale_per_matrix_moves_with_rows() -> None:
    factors = np.array([2.0**6, 2.0**-6, 1.0, 1.0, 1.0])
    rescaling = UnitRescaling(("layers.0.weight", "layers.0.bias"), ("layers.1.weight",))
    moved = ish.Moved(oracle(), rescaling.apply(oracle(), oracle().parameters, factors))
    before, after = (ish.pac_bayes_terms(o, scales="matrix").term_b for o in (oracle(), moved))
    assert abs(after / before - 1) > 0.01, f"(B) moved from {before} to {after} only: no counterexample"


def test_equal_seeds_give_equal_values_and_others_do_not() -> None:
    first, again, other = (ish.pac_bayes_bound(oracle(), draws=3, seed=s).value for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_oracle_without_outputs_asks_for_the_number_of_examples() -> None:
    weights = {"W": np.ones((2, 2))}
    still = FunctionOracle(weights, lambda _: 0.5, lambda p: {"W": 0 * p["W"]}, lambda _, v: {"W": 0 * v["W"]})
    with pytest.raises(MissingCapabilityError, match="examples="):
        ish.pac_bayes_bound(still)
    assert ish.pac_bayes_terms(still, num_examples=7).examples == 7


@pytest.mark.parametrize("labels", [LABELS[:-1], np.append(LABELS, 0), LABELS + 1], ids=["fewer", "more", "no class"])
def test_labels_that_do_not_fit_are_refused(labels: Any) -> None:
    with pytest.raises(DataError, match=r"label"):
        ish.pac_bayes_bound(oracle(), labels=labels)


@pytest.mark.parametrize(
    "wrong", [{"draws": 1}, {"scales": "rows"}, {"lam": -1.0}, {"num_examples": 0, "lam": 1.0}], ids=str
)
def test_values_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong)).removeprefix('num_')}="):
        ish.pac_bayes_bound(oracle(), **wrong)
