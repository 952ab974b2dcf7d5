"""Two models side by side: the numbers of measure, the differences that exceed their errors, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from math import inf, isnan
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind_from_stats

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, ArgumentTypeError, ComparisonError, ModelError, UnknownNameError
from invariant_sharpness.results.agreement import difference
from invariant_sharpness.results.estimate import Bracket
from invariant_sharpness_numpy import ReluNetwork, quadratic

X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
EPSILON = 2.0**-52


def oracle(
    seed: int = 0, sizes: tuple[int, ...] = (4, 5, 3), data: Any = (X, Y), **options: Any
) -> ish.CurvatureOracle:
    return ish.oracle(ReluNetwork.initialize(sizes, seed=seed), data, **options)


@pytest.fixture(scope="module")
def comparison() -> ish.Comparison:
    return ish.compare({"first": oracle(0), "second": oracle(1)})


def sampled(value: float, error: float, count: int) -> ish.Estimate:
    return ish.Estimate("trace", value, "probes", standard_error=error, degrees_of_freedom=count - 1)


def smooth(seed: int) -> ish.CurvatureOracle:
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).double()
    return ish.oracle(model, (torch.tensor(X), torch.tensor(Y)))


@pytest.mark.parametrize("options", [{}, {"seed": 3, "probes": 8}, {"budget": 20.0}])
@pytest.mark.parametrize("build", [oracle, smooth])
def test_values_are_those_of_measure_bit_by_bit(build: Any, options: Any) -> None:
    names = ["hessian_trace", "hessian_frobenius_norm", "normalized_sharpness"]
    together = ish.compare({"first": build(0), "second": build(1)}, names, **options)
    for seed, found in enumerate(together.values()):
        alone = ish.measure(build(seed), names, **options)
        assert {n: e.to_dict() for n, e in found.items()} == {n: e.to_dict() for n, e in alone.items()}
        assert found.signature == alone.signature


def test_default_metrics_are_those_of_measure(comparison: ish.Comparison) -> None:
    assert comparison.metrics == tuple(ish.measure(oracle(0)))
    assert list(comparison) == ["first", "second"]


def test_one_table_has_a_column_for_each_model_and_the_ratio(comparison: ish.Comparison) -> None:
    line = next(line for line in str(comparison).splitlines() if " normalized_sharpness " in line)
    a, b = (report["normalized_sharpness"].value for report in comparison.values())
    for part in (f"{a:.6g}", f"{b:.6g}", f"{b / a:.4g}, beyond error"):
        assert part in line, line
    assert "second / first" in str(comparison)


def test_equal_conditions_stand_there_once(comparison: ish.Comparison) -> None:
    words = str(comparison["first"].conditions)
    assert " ".join(str(comparison).partition("┘")[2].split()) == words
    assert comparison.signature == comparison["first"].signature


@pytest.mark.parametrize("gap", [0.1, 0.5, 0.9, 1.1, 2.0, 8.0])
@pytest.mark.parametrize(("errors", "counts"), [((0.3, 0.3), (10, 10)), ((0.1, 0.7), (5, 64)), ((1.0, 1e-6), (4, 4))])
def test_sampled_differences_are_judged_as_by_the_t_test_of_welch(gap: float, errors: Any, counts: Any) -> None:
    spread = [error * count**0.5 for error, count in zip(errors, counts, strict=True)]
    p = ttest_ind_from_stats(5.0, spread[0], counts[0], 5.0 + gap, spread[1], counts[1], equal_var=False).pvalue
    found = difference(*(sampled(5.0 + g, e, n) for g, e, n in zip((0.0, gap), errors, counts, strict=True)), EPSILON)
    assert found.verdict == ("beyond error" if p < 0.05 else "within error"), f"p = {p}, {found}"


def test_interval_of_a_difference_covers_the_truth_in_95_of_100_cases() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        samples = random.normal(2.0, 1.0, 6), random.normal(3.0, 4.0, 9)
        estimates = [sampled(float(s.mean()), float(s.std(ddof=1) / len(s) ** 0.5), len(s)) for s in samples]
        found = difference(*estimates, EPSILON)
        inside += found.lower <= 1.0 <= found.upper
    assert 0.94 < inside / 2000 < 0.965, inside / 2000


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (ish.Estimate("t", 1.0, "exact"), ish.Estimate("t", 1.0 + 1e-9, "exact"), "within error"),
        (ish.Estimate("t", 1.0, "exact"), ish.Estimate("t", 1.001, "exact"), "beyond error"),
        (ish.Estimate("t", 1.0, "Lanczos", certificate=0.01), ish.Estimate("t", 1.03, "exact"), "within error"),
        (ish.Estimate("t", 1.0, "exact", converged=False), ish.Estimate("t", 2.0, "exact"), "cannot be told"),
        (ish.Estimate("t", 1.0, "up", bracket=Bracket(1.0, inf)), ish.Estimate("t", 2.0, "exact"), "cannot be told"),
        (ish.Estimate("t", 1.0, "x", bracket=Bracket(0.5, 1.0)), ish.Estimate("t", 1.1, "exact"), "beyond error"),
        (ish.Estimate("t", 1.0, "exact"), ish.Estimate("t", 1.1, "x", bracket=Bracket(0.9, 1.1)), "within error"),
        (ish.Estimate("t", float("nan"), "exact"), ish.Estimate("t", 1.0, "exact"), "cannot be told"),
    ],
)
def test_gaps_brackets_and_open_iterations_count(before: ish.Estimate, after: ish.Estimate, verdict: str) -> None:
    assert difference(before, after, EPSILON).verdict == verdict


def test_single_precision_explains_more() -> None:
    values = ish.Estimate("t", 1.0, "exact"), ish.Estimate("t", 1.001, "exact")
    assert difference(*values, 2.0**-23).verdict == "within error"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: oracle(data=(X, np.eye(3)[Y]), loss="mse"),
            "their losses are cross_entropy and mse",
        ),
        (lambda: oracle(sizes=(4, 5, 7)), "an example has 3 outputs and 7, such as classes"),
        (lambda: ish.GaussNewton(oracle()), "other coordinates, the model and GaussNewton of the model"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_it_is_measured(other: Any, message: str) -> None:
    def never(_: ish.CurvatureOracle) -> float:
        raise AssertionError

    with pytest.raises(ComparisonError, match=f"'one' and 'other' cannot be compared: .*{message}"):
        ish.compare({"one": oracle(), "other": other()}, [never])


def test_models_that_share_nothing_are_told_all_reasons() -> None:
    data = np.ones((5, 2)), np.ones((5, 1))
    with pytest.raises(ComparisonError, match=r"losses are cross_entropy and mse.*; an example has 3 outputs and 1"):
        ish.compare({"one": oracle(), "other": oracle(sizes=(2, 1), data=data, loss="mse")})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: oracle(1, data=(X[:9], Y[:9])), "have other data (12 and 9 examples)"),
        (lambda: oracle(1, data=(X + 1, Y)), "have other data (other examples)"),
        (
            lambda: oracle(1, sizes=(4, 6, 3)),
            "have other architectures, such as layers.0.weight (5, 4) and layers.0.weight (6, 4)",
        ),
        (lambda: oracle(0), "have the same parameters, bit by bit"),
        (lambda: quadratic(np.eye(2), [[1.0, 2.0]]), "the loss of 'other' is not known"),
    ],
)
def test_what_else_may_explain_a_difference_is_a_warning(other: Any, words: str) -> None:
    found = ish.compare({"one": oracle(), "other": other()}, ["hessian_trace"])
    assert any(words in warning for warning in found.warnings), found.warnings
    assert f"Warning: {found.warnings[0]}" in " ".join(str(found).split())


def test_like_models_have_no_warning(comparison: ish.Comparison) -> None:
    assert comparison.warnings == ()
    moved = oracle()
    away = ish.Moved(moved, moved.from_numpy({n: 2 * a for n, a in moved.to_numpy(moved.parameters).items()}))
    assert ish.compare({"here": moved, "there": away}, ["hessian_trace"]).warnings == ()


def test_other_precision_is_a_warning() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(4, 3)
    data = torch.tensor(X), torch.tensor(Y)
    found = ish.compare(
        {"single": ish.oracle(model, data), "double": ish.oracle(model, data, dtype="float64")}, ["hessian_trace"]
    )
    assert any("'single' is in float32 and 'double' in float64" in warning for warning in found.warnings), (
        found.warnings
    )
    assert not any("other data" in warning for warning in found.warnings), found.warnings


def test_sampled_against_exact_is_a_warning() -> None:
    def drawn(oracle: ish.CurvatureOracle) -> ish.Estimate:
        error = 0.1 if len(oracle.groups) > 4 else None
        return ish.Estimate("drawn", 1.0, "draws", standard_error=error)

    found = ish.compare({"shallow": oracle(), "deep": oracle(sizes=(4, 5, 5, 3))}, [drawn])
    assert any("drawn was sampled for 'deep' and not for 'shallow'" in w for w in found.warnings), found.warnings


@pytest.mark.parametrize(
    ("oracles", "error", "message"),
    [
        ([oracle(), oracle()], ArgumentTypeError, "a dictionary of oracles by name"),
        ({1: oracle(), 2: oracle()}, ArgumentTypeError, "a dictionary of oracles by name"),
        ({"one": oracle()}, ArgumentError, "there is one oracle to compare"),
        ({}, ArgumentError, "there are no oracles to compare"),
        ({"one": oracle(), "other": 3}, ModelError, "a int is no oracle"),
    ],
)
def test_what_is_no_dictionary_of_oracles_is_refused(oracles: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ish.compare(oracles)


def test_json_is_the_dictionary_and_names_the_differences(comparison: ish.Comparison) -> None:
    read = json.loads(comparison.to_json())
    assert read == comparison.to_dict()
    a, b = (report["hessian_trace"].value for report in comparison.values())
    found = read["differences"]["second"]["hessian_trace"]
    assert (found["ratio"], found["difference"], found["verdict"]) == (b / a, b - a, "beyond error")
    assert read["compared_with"] == "first"
    assert read["reports"]["first"]["metrics"]["hessian_trace"]["value"] == a


def test_rows_have_ratios_of_metrics_and_of_groups(comparison: ish.Comparison) -> None:
    frame = comparison.to_frame()
    read = pd.read_csv(io.StringIO(comparison.to_csv()))
    pd.testing.assert_frame_equal(read[["value", "ratio"]], frame[["value", "ratio"]])
    numbers = ["value", "standard_error", "certificate", "ratio", "difference", "lower", "upper"]
    assert {str(frame[column].dtype) for column in numbers} == {"float64"}
    second = frame[(frame.model == "second") & (frame.metric == "hessian_trace")].set_index("group")
    for group, part in comparison["second"]["hessian_trace"].per_group.items():
        before = comparison["first"]["hessian_trace"].per_group[group].value
        expected = part.value / before if before else float("nan")
        assert second.ratio[group] == pytest.approx(expected, rel=1e-15, nan_ok=True)
    assert set(frame.level) == {"metric", "group"}
    assert len(list(csv.DictReader(io.StringIO(comparison.to_csv())))) == len(frame)


def test_a_metric_of_one_model_alone_has_no_ratio() -> None:
    found = ish.compare({"relu": oracle(sizes=(4, 9, 3)), "tanh": smooth(0)}, probes=4)
    alone = [name for name in found.metrics if name not in found["relu"]]
    assert alone == ["normalized_sharpness (Gauss-Newton)"]
    assert found.difference(alone[0], "tanh") is None
    assert isnan(found.to_frame().set_index(["model", "metric", "group"]).ratio["tanh", alone[0], "total"])


def test_unknown_names_are_answered_with_those_there_are(comparison: ish.Comparison) -> None:
    with pytest.raises(UnknownNameError, match=r"no model 'secnd' in this comparison \(did you mean 'second'\?\)"):
        comparison["secnd"]
    with pytest.raises(
        UnknownNameError, match=r"no metric 'hessian_trac' in this comparison \(did you mean 'hessian_trace'\?\)"
    ):
        comparison.estimates("hessian_trac")


def test_three_models_are_each_compared_with_the_first() -> None:
    found = ish.compare({str(seed): oracle(seed) for seed in range(3)}, ["hessian_trace"])
    assert "1 / 0" in str(found)
    assert "2 / 0" in str(found)
    assert "2 / 1" not in str(found)
