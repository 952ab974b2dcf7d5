"""The command ``doctor``: what it finds, in words and as JSON, and its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from invariant_sharpness.cli import app
from invariant_sharpness.cli.examining import MEANINGS, OVERVIEW
from invariant_sharpness.testing import CHECKS

SOURCE = """
import numpy as np
import invariant_sharpness as ish
from invariant_sharpness_numpy import FunctionOracle, ReluNetwork

print("the target speaks")
x, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
healthy = ReluNetwork.initialize((4, 5, 3), seed=0), (x, y)
badly_labelled = ReluNetwork.initialize((4, 5, 3), seed=0), (x, y + 100)

A = np.array([[2.0, 1.0], [0.5, 3.0]])
asymmetric = FunctionOracle(
    {"w": np.array([1.0, 2.0])},
    lambda p: float(p["w"] @ (A + A.T) @ p["w"]) / 4,
    lambda p: {"w": (A + A.T) @ p["w"] / 2},
    lambda p, v: {"w": A @ v["w"]},
)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "doctor_target.py"
    path.write_text(SOURCE)
    return path


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], env={"COLUMNS": "200"})


def plain(text: str) -> str:
    """Without frames and line breaks."""
    return " ".join(re.sub(r"[│┃┏┓└┘━─┴┬┳┻┼╇┡┩|]", " ", text).split())


def test_healthy_oracle_is_reported_with_its_groups(target: Path) -> None:
    result = invoke(f"{target}:healthy")
    text = plain(result.stdout)
    assert result.exit_code == 0, result.output
    assert all(check in text for check in CHECKS), text
    assert f"No check failed: {len(CHECKS)} passed, 0 skipped." in text, text
    assert "layers.0.weight 5 x 4 matrix 0 / 1 / - exact" in text, text
    assert "the target speaks" not in result.stdout, result.stdout


def test_sick_oracle_is_explained_and_fails(target: Path) -> None:
    result = invoke(f"{target}:asymmetric")
    text = plain(result.stdout)
    assert result.exit_code == 1, result.output
    assert "check_symmetry: hessian_vector_product is not symmetric" in text, text
    assert f"What this means: {MEANINGS['check_symmetry']}" in text, text
    assert f"2 of {len(CHECKS)} checks failed: do not trust the numbers of measure" in text, text
    assert "w 2 other - / - / - sampled: the oracle has no affine test" in text, text


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("asymmetric", 1)])
def test_json_is_strict_and_alone_on_stdout(target: Path, name: str, code: int) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    result = invoke(f"{target}:{name}", "--json", "--seed", 3)
    found = json.loads(result.stdout, parse_constant=refuse)
    assert result.exit_code == code, result.output
    assert [check["check"] for check in found["checks"]] == list(CHECKS)
    assert found["seed"] == 3
    exact = {group["name"]: group["exact"] for group in found["groups"]}
    expected = {"w": None} if name == "asymmetric" else dict.fromkeys(exact, True)
    assert exact == expected, f"{exact} instead of {expected}"


def test_group_that_is_not_exact_shows_its_relative_curvature(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "doctor_torch_target.py"
    path.write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()\n"
        "pair = model, (torch.randn(9, 4).double(), torch.arange(9) % 3)\n"
    )
    result = invoke(f"{path}:pair")
    text = plain(result.stdout)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"0\.weight 5 x 4 matrix 0 / 1 / - sampled: outputs not affine in it, relative curvature 0?\.\d", text
    ), text
    assert "2.weight 3 x 5 matrix 0 / 1 / - exact" in text, text


def test_target_that_cannot_be_measured_is_an_error_without_traceback(target: Path) -> None:
    result = invoke(f"{target}:badly_labelled")
    assert result.exit_code == 1, result.output
    assert "error: " in result.stderr, result.stderr
    assert invoke(f"{target}:absent").exit_code == 2


def test_help_says_that_code_is_run() -> None:
    result = invoke("--help")
    assert "IMPORTED AND RUN" in plain(result.stdout), result.stdout


@pytest.mark.parametrize("words", [OVERVIEW, MEANINGS], ids=["overview", "meanings"])
def test_every_check_is_explained(words: dict[str, str]) -> None:
    assert words.keys() == CHECKS.keys(), f"differ in {words.keys() ^ CHECKS.keys()}"
