"""Metrics with one mistake each: the check that is there for it says so, by its name."""

from __future__ import annotations

import re

import pytest

from invariant_sharpness.testing import Problem
from invariant_sharpness.testing.metric_suite import metric_checks
from invariant_sharpness.testing.results import CheckFailedError
from zoo import own_metrics
from zoo.own_metrics import Metric, failures, networks

MISTAKES = {
    "added epsilon": (own_metrics.added_epsilon, "check_invariance[row_column]", "which differ|moved from"),
    "added epsilon, at extreme scales": (own_metrics.added_epsilon, "check_extreme_scales", "such as an epsilon"),
    "bias forgotten": (own_metrics.forgotten_bias, "check_invariance[row_column]", r"moved from [\d.]+ to [\d.]+"),
    "filter norms": (own_metrics.filter_norms, "check_invariance[row_column]", r"layers\.\d\.weight\[\d\].* up"),
    "raw probe": (own_metrics.raw_probe, "check_invariance[row_column]", "random numbers too"),
    "nondeterministic": (own_metrics.nondeterministic, "check_determinism", "when it is measured again"),
    "changes the model": (own_metrics.changing_the_model, "check_state_restored", "changed the parameters, the loss"),
    "first example": (own_metrics.of_the_first_example, "check_batch_order", "with the examples in another order"),
    "number of batches": (own_metrics.of_the_batches, "check_batch_size", "in batches of 7"),
    "negative": (own_metrics.negative, "check_nonnegative", r"is -[\d.]+ on the network"),
    "overflow": (own_metrics.overflowing, "check_extreme_scales", r"is (nan|inf) on .* 2\*\*40 and 2\*\*-40"),
    "places of units": (own_metrics.of_the_places, "check_permutation", "treat units alike"),
    "raises": (own_metrics.raising, "check_determinism", "measuring raised ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("metric", "check", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_caught_by_its_check(metric: Metric, check: str, words: str) -> None:
    found = failures(metric)
    assert check in found, f"{check} passes; those that fail are {found}"
    assert re.search(words, found[check]), f"{words!r} is not in the message: {found[check]}"


@pytest.mark.parametrize(("metric", "check"), [(m, c) for m, c, _ in MISTAKES.values()], ids=MISTAKES)
def test_check_fails_whichever_runs_first(metric: Metric, check: str) -> None:
    checks = metric_checks(metric, networks(), own_metrics.CLAIMS, seed=3)
    with pytest.raises(CheckFailedError):
        checks[check]()


def test_correct_metric_fails_no_check() -> None:
    found = failures(own_metrics.adaptive)
    assert not found, f"a correct metric fails {found}"


def test_metric_without_claims_fails_no_check_if_it_moves() -> None:
    found = failures(own_metrics.raw, frozenset())
    assert not found, f"the norm of the gradient claims nothing, and fails {found}"


def test_claim_that_is_not_made_is_asked_for() -> None:
    found = failures(own_metrics.adaptive, frozenset())
    assert sorted(found) == ["check_counterexample[layer]", "check_counterexample[row_column]"], f"{found}"
    assert "add 'layer' to its claims" in found["check_counterexample[layer]"], f"{found}"


def test_filter_norms_survive_what_they_survive() -> None:
    found = failures(own_metrics.filter_norms)
    assert "check_invariance[layer]" not in found, f"they are scaled as whole layers are, but {found}"


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_layout_of_a_framework_is_seen(framework: str) -> None:
    pytest.importorskip(framework)
    check = metric_checks(own_metrics.of_the_layout, None, own_metrics.CLAIMS, seed=0)[f"check_same_value[{framework}]"]
    if framework == "torch":
        assert check()["largest_change"] < 1e-12, "torch has the layout of NumPy"
    else:
        with pytest.raises(CheckFailedError, match="find rows and columns by the axes"):
            check()


class Doubling:
    """A move that is no symmetry."""

    kind = "row_column"

    def transformations(self, seed: int, /) -> dict[str, Doubling]:
        return {"everything twice": self}

    def apply(self, parameters: own_metrics.ish.ParameterVector, /) -> own_metrics.ish.ParameterVector:
        return 2.0 * parameters


def test_wrong_symmetry_is_blamed_instead_of_the_metric() -> None:
    oracle = networks()[0].oracle
    found = failures(own_metrics.adaptive, oracles=Problem(oracle, "the network", [Doubling()]))
    assert list(found) == ["check_function_preserved"], f"{found}"
    assert re.search(r"the loss of the network moved by [\d.]+ under everything twice", *found.values()), f"{found}"
