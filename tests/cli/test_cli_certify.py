"""``invariant-sharpness certify``: verdicts on stdout, and an exit code that tells whether all claims hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import invariant_sharpness as ish
from invariant_sharpness import METRICS
from invariant_sharpness.cli import measuring
from zoo.command_line import SOURCE, invoke, plain

SMOOTH = """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
target = model, (torch.randn(12, 4), torch.arange(12) % 3)
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    path = tmp_path / "certified_target.py"
    path.write_text(SOURCE)
    return f"{path}:build"


def test_claims_that_hold_are_shown_with_exit_code_zero(target: str) -> None:
    result = invoke("certify", target, "--metrics", "hessian_trace,normalized_sharpness")
    assert result.exit_code == 0, result.output
    text = plain(result.stdout)
    assert "5 rescaling symmetries" in text, text
    assert all(word in text for word in ("hessian_trace", "moves", "normalized_sharpness", "holds")), text


def test_claim_that_fails_gives_exit_code_one(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(oracle: ish.CurvatureOracle, _names: object, seed: int) -> ish.Certificate:
        return ish.certify(oracle, [hessian_trace], claims={"hessian_trace": {"row_column"}}, seed=seed)

    def hessian_trace(oracle: ish.CurvatureOracle) -> ish.Estimate:
        return METRICS["hessian_trace"].function(oracle)

    monkeypatch.setattr(measuring, "certify_oracle", lying)
    result = invoke("certify", target)
    assert result.exit_code == 1, result.output
    assert "CLAIM FAILS" in plain(result.stdout), result.stdout


def test_json_has_every_finding(target: str) -> None:
    result = invoke("certify", target, "--metrics", "fisher_rao_norm", "--json", "--seed", "3")
    loaded = json.loads(result.stdout)
    assert (loaded["seed"], loaded["failed"]) == (3, 0), loaded
    assert {finding["verdict"] for finding in loaded["findings"]} == {"holds"}, loaded


def test_picture_is_written(target: str, tmp_path: Path) -> None:
    picture = tmp_path / "certificate.png"
    result = invoke("certify", target, "--metrics", "fisher_rao_norm", "--plot", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_unknown_metric_is_refused_before_the_target_is_run(target: str) -> None:
    result = invoke("certify", target, "--metrics", "hessian_trase")
    assert result.exit_code == 2, result.output
    assert "there is no metric 'hessian_trase'" in plain(result.output), result.output


def test_network_without_symmetries_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "smooth_target.py"
    path.write_text(SMOOTH)
    result = invoke("certify", f"{path}:target")
    assert result.exit_code == 1, result.output
    assert "no rescaling leaves this network alone" in plain(result.output), result.output
