"""The two doors to the checks of a metric: a function that returns results, and a decorator for pytest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.symmetries import UnitPermutation
from invariant_sharpness.testing import CheckFailedError, Problem, check_metric, parametrize_with_checks
from invariant_sharpness_numpy import FunctionOracle
from zoo.own_metrics import CLAIMS, adaptive, negative, networks, raw

NAMES = [
    "check_function_preserved",
    "check_state_restored",
    "check_determinism",
    "check_invariance[layer]",
    "check_invariance[row_column]",
    "check_extreme_scales",
    "check_permutation",
    "check_nonnegative",
    "check_batch_order",
    "check_batch_size",
]


def test_every_check_has_a_result_with_figures() -> None:
    results = check_metric(adaptive, oracles=networks(), claims=CLAIMS)
    assert [result.check for result in results] == NAMES
    change = {result.check: result.figures for result in results}["check_invariance[row_column]"]["largest_change"]
    assert change < 1e-12, f"the norm of theta * g moves by {change} under rescalings"


@pytest.mark.parametrize(
    "name", ["hessian_trace", "normalized_sharpness", "matrix_normalized_sharpness", "fisher_rao_norm"]
)
def test_metric_of_the_library_passes_by_its_name(name: str) -> None:
    results = check_metric(name, oracles=networks(ish.METRICS[name].invariances))
    failed = [str(result) for result in results if result.status == "failed"]
    skipped = {result.check for result in results if result.status == "skipped"}
    assert not failed, f"{failed}"
    assert skipped <= {"check_invariance[row]", "check_invariance[unit_split]"}, (
        f"no network here has these, but {skipped}"
    )


def test_failure_is_raised_with_the_name_of_the_check() -> None:
    with pytest.raises(
        CheckFailedError, match=r"^check_nonnegative: negative is -\d.* on the network with two hidden"
    ) as caught:
        check_metric(negative, oracles=networks(), claims=CLAIMS)
    assert caught.value.figures["value"] < 0, f"{caught.value.figures}"


def test_results_print_in_one_line_and_go_to_json() -> None:
    for result in check_metric(raw, oracles=networks(), claims=CLAIMS, on_fail="return"):
        assert "\n" not in str(result), f"{result}"
        assert json.loads(json.dumps(result.to_dict()))["check"] == result.check


def test_expected_failure_is_a_result_with_its_reason() -> None:
    expected = {"check_nonnegative": "it counts downwards"}
    results = check_metric(negative, oracles=networks(), claims=CLAIMS, expected_failures=expected)
    (result,) = [result for result in results if result.check == "check_nonnegative"]
    assert result.status == "failed as expected", f"{result}"
    assert "it counts downwards (negative is -" in result.message, f"{result}"


def test_expected_failure_that_passes_is_a_failure() -> None:
    with pytest.raises(
        CheckFailedError, match=r"check_nonnegative: it was expected to fail \(why\), but it passes: take it out"
    ):
        check_metric(adaptive, oracles=networks(), claims=CLAIMS, expected_failures={"check_nonnegative": "why"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expected_failures": {"check_nonnegative": " "}}, "check_nonnegative is expected to fail without a reason"),
        (
            {"expected_failures": {"check_beauty": "ugly"}},
            "there is no check 'check_beauty' of this metric; its checks are",
        ),
        ({"claims": {"rows"}}, "there is no invariance 'rows'; the words of the declarations are"),
        ({"oracles": []}, "oracles is empty"),
        ({"on_fail": "ignore"}, "on_fail='ignore'"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_metric(adaptive, **{"oracles": networks(), "claims": CLAIMS, **options})  # type: ignore[arg-type]


def test_oracle_of_ones_own_is_measured() -> None:
    oracle = networks()[0].oracle
    skipped = {
        r.check: r.message for r in check_metric(adaptive, oracles=oracle, claims=CLAIMS) if r.status == "skipped"
    }
    assert list(skipped) == ["check_batch_order", "check_batch_size"], f"{skipped}"


def test_network_without_symmetries_skips_what_needs_them() -> None:
    oracle = FunctionOracle(
        {"x": np.ones(3)},
        loss=lambda p: float(np.sum(np.cosh(p["x"]))),
        gradient=lambda p: {"x": np.sinh(p["x"])},
        hessian_vector_product=lambda p, v: {"x": np.cosh(p["x"]) * v["x"]},
    )
    skipped = {r.check: r.message for r in check_metric(raw, oracles=oracle) if r.status == "skipped"}
    assert "check_counterexample[row_column]" in skipped, f"{skipped}"
    assert "give one that has, as Problem(oracle, symmetries=[...])" in skipped["check_extreme_scales"], f"{skipped}"


def test_symmetry_of_ones_own_is_tested_both_ways() -> None:
    oracle = networks()[0].oracle
    permutation = UnitPermutation(oracle, ("layers.0.weight", "layers.0.bias"), ("layers.1.weight",))
    problem = Problem(oracle, "the network", [permutation])
    claimed = check_metric(adaptive, oracles=problem, claims={"row_column", "permutation"})
    assert "check_invariance[permutation]" in [result.check for result in claimed]
    with pytest.raises(
        CheckFailedError,
        match=r"check_counterexample\[permutation\]: adaptive is not declared invariant under 'permutation'",
    ):
        check_metric(adaptive, oracles=problem, claims=CLAIMS)


def test_claim_without_a_network_to_test_it_on_is_skipped_and_named() -> None:
    results = {
        r.check: r
        for r in check_metric(adaptive, oracles=networks(), claims={"row_column", "output_shift"}, on_fail="return")
    }
    assert results["check_invariance[output_shift]"].status == "skipped", f"{results}"


def test_symmetries_of_outputs_are_tested_for_those_who_claim_them() -> None:
    claims = frozenset({"output_shift", "output_scale"})
    results = {
        r.check: r for r in check_metric(ish.hessian_trace, oracles=networks(claims), claims=claims, on_fail="return")
    }
    assert results["check_invariance[output_shift]"].status == "passed", f"{results['check_invariance[output_shift]']}"
    assert "moved from" in results["check_invariance[output_scale]"].message, "the trace survives larger weights?"


def test_value_that_has_not_converged_is_not_held_against_the_claim() -> None:
    def unfinished(oracle: ish.CurvatureOracle) -> ish.Estimate:
        return ish.Estimate("unfinished", raw(oracle), "stopped early", converged=False)

    (result,) = [
        result
        for result in check_metric(unfinished, oracles=networks(), claims=CLAIMS, on_fail="return")
        if result.check == "check_invariance[layer]"
    ]
    assert result.status == "skipped", f"{result}"
    assert "no value is certain enough to be compared" in result.message, f"{result}"


@parametrize_with_checks([adaptive, raw], oracles=networks(), claims={"adaptive": CLAIMS})
def test_decorated_function_runs_every_check_of_every_metric(check: Callable[[], None]) -> None:
    check()


@parametrize_with_checks(
    [negative],
    oracles=networks()[0],
    claims={"negative": CLAIMS},
    expected_failures={"check_nonnegative": "it counts downwards"},
)
def test_decorated_function_expects_failures(check: Callable[[], None]) -> None:
    check()


def test_tests_are_named_by_metric_and_check() -> None:
    decorator = parametrize_with_checks([adaptive, raw], oracles=networks(), claims={"adaptive": CLAIMS})
    names = [parameter.id for parameter in decorator.args[1]]
    assert names[: len(NAMES)] == [f"adaptive-{name}" for name in NAMES]
    assert "raw-check_counterexample[layer]" in names, f"{names}"


def test_listing_the_checks_builds_no_network_and_loads_no_framework() -> None:
    program = """
import sys
from invariant_sharpness.testing import parametrize_with_checks
print(len(parametrize_with_checks("hessian_trace").args[1]), *{n.split(".")[0] for n in sys.modules})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    count, *loaded = run.stdout.split()
    assert int(count) > len(NAMES), f"{count} checks"
    assert not {"torch", "jax", "keras", "tensorflow", "hypothesis"} & set(loaded), f"{loaded}"
