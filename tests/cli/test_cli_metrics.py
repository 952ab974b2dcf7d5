"""``invariant-sharpness metrics``: the list of the metrics, and the declaration of each in plain words."""

from __future__ import annotations

import json
import re

import pytest

from invariant_sharpness import METRICS
from invariant_sharpness.cli.plain_text import plain_math, plain_text
from zoo.command_line import invoke, plain


def test_metrics_lists_all_with_claim_summary_cost_and_reference() -> None:
    result = invoke("metrics")
    text = plain(result.stdout)
    for metric in METRICS.values():
        assert metric.name in text, result.stdout
    assert (
        "Largest curvature in any direction. "
        f"Cost: {METRICS['hessian_spectral_norm'].cost}. "
        "Yao, Gholami, Lei, Keutzer and Mahoney (2018)"
    ) in text, result.stdout
    assert "row/column" in text, result.stdout


@pytest.mark.parametrize("name", list(METRICS))
def test_metrics_shows_a_declaration_in_full(name: str) -> None:
    metric, text = METRICS[name], plain(invoke("metrics", name).stdout)
    equation = f"{plain_math(metric.symbol)} = {plain_math(metric.equation)}"
    for part in (
        metric.summary,
        metric.needs,
        metric.cost,
        metric.reference,
        equation,
        plain_text(metric.pitfalls),
    ):
        assert part in text, f"{part!r} is missing in {text}"


@pytest.mark.parametrize("name", list(METRICS))
def test_nothing_in_a_declaration_needs_latex_to_be_read(name: str) -> None:
    text = invoke("metrics", name).stdout
    marks = re.findall(r"[\\{}`]", text)
    assert not marks, f"{marks} in {text}"


def test_metrics_json_has_every_declaration() -> None:
    read = json.loads(invoke("metrics", "--json").stdout)
    assert [metric["name"] for metric in read] == list(METRICS)
    one = json.loads(invoke("metrics", "normalized_sharpness", "--json").stdout)
    assert one["invariances"] == ["output_scale", "output_shift", "permutation", "row", "row_column", "unit_split"]


def test_metrics_refuses_an_unknown_name() -> None:
    result = invoke("metrics", "nope")
    assert result.exit_code == 2
    assert "there is no metric 'nope'; the metrics are hessian_trace" in plain(result.stderr), result.stderr
