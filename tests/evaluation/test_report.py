"""A report shows everything that was measured, and loses nothing on its way to files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pandas as pd
import pytest

import invariant_sharpness as ish
from invariant_sharpness import Estimate, GroupEstimate, Report
from invariant_sharpness.results.estimate import Bracket
from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness_numpy import ReluNetwork, quadratic

NUMBERS = (0.1 + 0.2, 1e-300, -7.0, 1.7976931348623157e308)


def report_of(*estimates: Estimate) -> Report:
    return Report(
        estimates={estimate.name: estimate for estimate in estimates},
        invariances={"exact": frozenset(), "certified": frozenset({"layer", "row_column"})},
        loss=0.5,
        parameters=24,
        groups=2,
        oracle="NetworkOracle",
        seed=3,
        seconds=0.25,
    )


EXACT = Estimate("exact", 12.5, "exact")
SAMPLED = Estimate(
    "sampled",
    2.0,
    "64 probes",
    standard_error=0.25,
    per_group={"a.weight": GroupEstimate(1.5, "probes", 0.2), "b.weight": GroupEstimate(0.5, "exact", note="dead")},
)
CERTIFIED = Estimate("certified", 3.0, "exact", certificate=2e-13)
UNCONVERGED = Estimate("unconverged", 4.0, "Lanczos, 200 steps", certificate=0.03, converged=False, notes=("look out",))
REPORT = report_of(EXACT, SAMPLED, CERTIFIED, UNCONVERGED)


@pytest.fixture(scope="module")
def oracle() -> ish.CurvatureOracle:
    x = np.random.default_rng(0).normal(size=(12, 4))
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), (x, np.arange(12) % 3))


@pytest.mark.parametrize("name", list(REPORT))
def test_printing_shows_name_value_method_and_error(name: str) -> None:
    line = next(line for line in str(REPORT).splitlines() if f" {name} " in line)
    for part in (f"{REPORT[name].value:.6g}", REPORT[name].method, REPORT[name].error_text()):
        assert part in line, f"{part!r} is missing in {line!r}"


def test_printing_shows_claims() -> None:
    claims = {name: REPORT.claim(name) for name in REPORT}
    assert claims == {"exact": "-", "certified": "row/column rescaling", "sampled": "unknown", "unconverged": "unknown"}
    for claim in claims.values():
        assert claim in str(REPORT), f"{claim!r} is missing in\n{REPORT}"


def test_printing_shows_warnings() -> None:
    assert "NOT CONVERGED" in str(REPORT), str(REPORT)
    assert "unconverged: look out" in str(REPORT), str(REPORT)


def test_printing_shows_loss_size_and_seed() -> None:
    title = str(REPORT).splitlines()[0]
    assert title.strip() == "loss 0.5, 24 parameters in 2 groups, seed 3", title


def test_names_that_look_like_markup_are_printed_as_they_are() -> None:
    text = str(report_of(Estimate("my[/bold] metric", 1.0, "[red]guess[/red]")))
    assert "my[/bold] metric" in text, text
    assert "[red]guess[/red]" in text, text


@pytest.mark.parametrize("value", NUMBERS)
def test_json_keeps_every_digit(value: float) -> None:
    read = json.loads(report_of(Estimate("exact", value, "exact", standard_error=value)).to_json())
    assert read["metrics"]["exact"]["value"] == value, read
    assert read["metrics"]["exact"]["standard_error"] == value, read


def test_json_is_the_dictionary() -> None:
    assert json.loads(REPORT.to_json()) == REPORT.to_dict()


def test_json_says_what_is_needed_to_measure_again() -> None:
    read = json.loads(REPORT.to_json())
    assert {"schema", "version", "loss", "parameters", "groups", "oracle", "seed", "seconds"} <= read.keys(), (
        read.keys()
    )


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_json_writes_null_for_what_is_not_finite(value: float) -> None:
    share = {"w": GroupEstimate(value, "probes", value)}
    text = report_of(Estimate("exact", value, "exact", certificate=value, per_group=share)).to_json()
    read = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    metric = read["metrics"]["exact"]
    found = (metric["value"], metric["certificate"], metric["per_group"]["w"]["value"])
    assert found == (None, None, None), text


def test_csv_has_a_row_per_metric_and_per_group() -> None:
    rows = list(csv.DictReader(io.StringIO(REPORT.to_csv())))
    found = [(row["metric"], row["group"], float(row["value"]), row["standard_error"]) for row in rows]
    assert found == [
        ("exact", "total", 12.5, ""),
        ("sampled", "total", 2.0, "0.25"),
        ("sampled", "a.weight", 1.5, "0.2"),
        ("sampled", "b.weight", 0.5, ""),
        ("certified", "total", 3.0, ""),
        ("unconverged", "total", 4.0, ""),
    ]


def test_csv_keeps_every_digit_and_awkward_names() -> None:
    share = {'a,"b"\nc': GroupEstimate(NUMBERS[0], "exact")}
    rows = list(csv.DictReader(io.StringIO(report_of(Estimate("exact", 1.0, "exact", per_group=share)).to_csv())))
    assert rows[1]["group"] == 'a,"b"\nc', rows
    assert float(rows[1]["value"]) == NUMBERS[0], rows


def test_csv_of_an_empty_report_has_the_header() -> None:
    assert report_of().to_csv().splitlines() == [REPORT.to_csv().splitlines()[0]]


def test_frame_has_the_rows_of_the_csv() -> None:
    frame, read = REPORT.to_frame(), pd.read_csv(io.StringIO(REPORT.to_csv()), keep_default_na=False)
    assert list(frame.columns) == list(read.columns)
    assert frame["value"].tolist() == read["value"].tolist()
    assert isnan(frame["standard_error"][0]), frame


@pytest.mark.parametrize("estimates", [(EXACT,), (SAMPLED, CERTIFIED), ()])
def test_columns_of_numbers_are_numbers_in_a_frame_and_after_a_csv(estimates: tuple[Estimate, ...]) -> None:
    frame = report_of(*estimates).to_frame()
    assert {str(frame[column].dtype) for column in ("value", "standard_error", "certificate")} == {"float64"}
    read = pd.read_csv(io.StringIO(report_of(*estimates).to_csv()))
    assert not read["group"].isna().any(), read


def test_report_is_a_mapping() -> None:
    assert isinstance(REPORT, Mapping)
    assert list(REPORT) == ["exact", "sampled", "certified", "unconverged"]
    assert dict(REPORT.items())["sampled"] is SAMPLED
    assert REPORT.get("absent") is None


@pytest.mark.parametrize("name", ["certifie", "certified ", "", 3])
def test_name_that_is_not_there_is_answered_with_those_that_are(name: object) -> None:
    meant = r" \(did you mean 'certified'\?\)" if "certif" in str(name) else ""
    with pytest.raises(KeyError, match=rf"no metric '?{name}'? in this report{meant}; the metrics are exact, "):
        REPORT[name]  # type: ignore[index]


@pytest.mark.parametrize("name", ["hessian_tracee", "normalised_sharpness", "fisher_rao"])
def test_unknown_name_in_metrics_is_answered_with_the_closest(name: str) -> None:
    words = rf"^there is no metric '{name}' \(did you mean '.*'\?\); the metrics are hessian_trace, "
    with pytest.raises(KeyError, match=words):
        ish.METRICS[name]
    assert name not in ish.METRICS
    assert ish.METRICS.get(name) is None


@pytest.mark.parametrize("shift", [0.0, 10.0])
def test_trace_that_drowns_in_its_probes_says_so(shift: float) -> None:
    A = np.random.default_rng(0).normal(size=(100, 100))
    oracle = quadratic(A + A.T - np.diag(2 * np.diag(A)) + shift * np.eye(100), np.ones((10, 10)))
    notes = ish.hessian_trace(oracle, probes=8).notes
    assert any("invariant_sharpness.GaussNewton(oracle)" in note for note in notes) == (shift == 0), notes


def test_report_has_its_names() -> None:
    assert "exact" in REPORT


def test_unknown_metric_is_refused_with_the_names_there_are(oracle: ish.CurvatureOracle) -> None:
    with pytest.raises(
        ValueError, match=r"no metric 'hessian_tracee' \(did you mean 'hessian_trace'\?\); the metrics are "
    ):
        ish.measure(oracle, ["hessian_tracee"])


def test_metrics_come_in_the_order_asked_for(oracle: ish.CurvatureOracle) -> None:
    names = ["normalized_sharpness", "hessian_trace"]
    assert list(ish.measure(oracle, names)) == names


def test_a_metric_of_the_users_own_is_measured_and_claims_nothing(oracle: ish.CurvatureOracle) -> None:
    def squared_norm(oracle: ish.CurvatureOracle) -> Estimate:
        return Estimate("squared_norm", oracle.parameters.dot(oracle.parameters), "exact")

    report = ish.measure(oracle, [squared_norm, "hessian_trace"])
    expected = sum(float(np.sum(a**2)) for a in oracle.to_numpy(oracle.parameters).values())
    assert report["squared_norm"].value == pytest.approx(expected, rel=1e-14)
    assert report.claim("squared_norm") == "unknown"
    assert "squared_norm" in str(report)


def test_measured_report_makes_the_round_trip(oracle: ish.CurvatureOracle) -> None:
    report = ish.measure(oracle)
    read = json.loads(report.to_json())["metrics"]
    assert {name: metric["value"] for name, metric in read.items()} == {n: e.value for n, e in report.items()}


@pytest.mark.parametrize(
    ("lower", "value", "words"),
    [(1.5, 2.0, "95 %: 1.3 to 2.2"), (0.5, 2.0, "95 %: 0.304 to 2.2, MOSTLY NOISE"), (1.95, 2.0, "± 0.1")],
)
def test_a_bracket_wider_than_the_scatter_is_shown_as_an_interval(lower: float, value: float, words: str) -> None:
    """Ends at 1.96 standard errors of 0.1 outside of the bracket, as there are no degrees of freedom."""
    estimate = Estimate("sampled", value, "draws", standard_error=0.1, bracket=Bracket(lower, value))
    assert str(estimate) == f"sampled = 2 ({words}; draws)", str(estimate)


def test_a_smooth_network_shows_that_of_gauss_newton_beside_that_of_the_hessian() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    model = ish.oracle(torch.nn.Sequential(*layers).double(), (x, y))
    report, name = ish.measure(model), "normalized_sharpness (Gauss-Newton)"
    G = sum(
        J.T @ (np.diag(p) - np.outer(p, p)) @ J / len(x)
        for J, p in zip(*_jacobians(layers[0], layers[2], x), strict=True)
    )
    squares = (layers[0].weight.detach().numpy() ** 2, layers[2].weight.detach().numpy() ** 2)
    diagonals = (np.diag(G)[:20].reshape(5, 4), np.diag(G)[20:].reshape(3, 5))
    expected = sum(solve(h, w).value for h, w in zip(diagonals, squares, strict=True))
    assert report[name].value == pytest.approx(expected, rel=1e-9)
    assert report[name].value != pytest.approx(report["normalized_sharpness"].value, rel=1e-3), str(report)
    assert report.claim(name) == report.claim("normalized_sharpness") == "row/column rescaling"


def _jacobians(first: Any, last: Any, x: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """By hand: the derivatives of the outputs in both weights, example by example, and the probabilities."""
    A, a, B, b = (p.detach().numpy() for p in (*first.parameters(), *last.parameters()))
    hidden = np.tanh(x.numpy() @ A.T + a)
    outputs = hidden @ B.T + b
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    found = []
    for inputs, h in zip(x.numpy(), hidden, strict=True):
        of_first = np.einsum("ki,i,j->kij", B, 1 - h**2, inputs).reshape(3, -1)
        of_last = np.einsum("kl,i->kli", np.eye(3), h).reshape(3, -1)
        found.append(np.hstack([of_first, of_last]))
    return found, list(p)


def test_a_network_of_relus_has_no_row_of_gauss_newton(oracle: ish.CurvatureOracle) -> None:
    assert not [name for name in ish.measure(oracle) if "Gauss-Newton" in name]


def test_a_smooth_network_without_residuals_has_no_row_of_gauss_newton() -> None:
    """The residual part vanishes, so that the two are one number up to rounding."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    x = torch.randn(12, 4, dtype=torch.float64)
    report = ish.measure(ish.oracle(model, (x, model(x).detach()), loss="mse"))
    assert "exact (columns)" in report["normalized_sharpness"].method, str(report)
    assert not [name for name in report if "Gauss-Newton" in name], str(report)
