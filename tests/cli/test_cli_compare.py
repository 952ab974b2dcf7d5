"""The command ``compare``: several targets in one table, with arguments, patterns of metrics, and files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import invariant_sharpness as ish
from zoo.command_line import invoke, plain

SOURCE = """
import numpy as np
from invariant_sharpness_numpy import ReluNetwork

data = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3

def make(seed=0, loss="cross_entropy"):
    print("making", seed)
    return ReluNetwork.initialize((4, 5, 3), seed=seed), data, loss

def other():
    return make(seed=1)

def of_probabilities(seed):
    model, (x, y), _ = make(seed)
    return model, (x, np.eye(3)[y]), "mse"
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "checkpoints.py"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return path


def values(text: str) -> dict[str, dict[str, float]]:
    reports = json.loads(text)["reports"]
    return {name: {m: e["value"] for m, e in report["metrics"].items()} for name, report in reports.items()}


def test_json_names_its_targets_and_has_the_numbers_of_measure() -> None:
    targets = {"make": "checkpoints.py:make", "make(seed=1)": "checkpoints.py:make(seed=1)"}
    result = invoke("compare", *targets.values(), "--metrics", "hessian_trace,matrix*", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["targets"] == targets
    assert "making 1" in result.stderr
    for name, target in targets.items():
        alone = invoke("measure", target, "--metrics", "hessian_trace,matrix_normalized_sharpness", "--json")
        read = json.loads(alone.stdout)
        assert read["target"] == target
        assert {m: e["value"] for m, e in read["metrics"].items()} == values(result.stdout)[name]


def test_table_csv_page_and_picture(file: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [
        option for name in ("csv", "html", "plot") for option in (f"--{name}", f"out.{name}".replace("plot", "png"))
    ]
    result = invoke("compare", "checkpoints.py:make", "checkpoints.py:other", "--metrics", "hessian_trace", *files)
    assert result.exit_code == 0, result.stderr
    assert "other / make" in result.stdout
    with (file.parent / "out.csv").open(newline="") as rows:
        assert {row["model"] for row in csv.DictReader(rows)} == {"make", "other"}
    assert (file.parent / "out.html").read_text().startswith("<!DOCTYPE html>")
    assert (file.parent / "out.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_function_of_two_files_has_the_whole_target_as_its_name(file: Path) -> None:
    (file.parent / "later.py").write_text(SOURCE.replace("seed=0", "seed=5"))
    result = invoke("compare", "checkpoints.py:make", "later.py:make", "--metrics", "hessian_trace", "--json")
    assert list(json.loads(result.stdout)["reports"]) == ["checkpoints.py:make", "later.py:make"]


def test_options_of_the_model_go_to_all_targets() -> None:
    targets = [f"checkpoints.py:of_probabilities({seed})" for seed in (3, 4)]
    result = invoke("compare", *targets, "--loss", "cross_entropy", "--metrics", "hessian_trace", "--json")
    assert result.exit_code == 0, result.stderr
    assert all(r["conditions"]["loss"] == "cross_entropy" for r in json.loads(result.stdout)["reports"].values())


def test_targets_that_cannot_be_compared_exit_with_1(file: Path) -> None:
    (file.parent / "wide.py").write_text(SOURCE.replace("(4, 5, 3)", "(4, 5, 6)"))
    result = invoke("compare", "checkpoints.py:make", "wide.py:make")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "error: 'checkpoints.py:make' and 'wide.py:make' cannot be compared: an example has 3 outputs and 6"
        in result.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoints.py:make"], "give at least two targets, all different"),
        (["checkpoints.py:make", "checkpoints.py:make"], "give at least two targets, all different"),
        (
            ["checkpoints.py:make", "checkpoints.py:make(sed=1)"],
            "got an unexpected keyword argument 'sed'; it takes (seed=0",
        ),
        (["checkpoints.py:make", "checkpoints.py:othr"], "(did you mean 'other'?)"),
        (["checkpoints.py:make", "checkpoints.py:other", "--metrics", "*sharp"], "it names no metric"),
        (["checkpoints.py:make", "checkpoints.py:other", "--metrics", "hessian_trac"], "did you mean 'hessian_trace'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str) -> None:
    result = invoke("compare", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(plain(result.stderr).replace("│", " ").split())


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*normalized_sharpness", [n for n in ish.METRICS if n.endswith("normalized_sharpness")]),
        ("hessian_trace, hessian_*", ["hessian_trace", "hessian_spectral_norm", "hessian_frobenius_norm"]),
        ("stable_ran?", ["stable_rank"]),
    ],
)
def test_patterns_stand_for_the_metrics_that_they_fit(patterns: str, expected: list[str]) -> None:
    result = invoke("measure", "checkpoints.py:make", "--metrics", patterns, "--json")
    assert list(json.loads(result.stdout)["metrics"]) == expected, result.stderr


def test_certify_and_measure_write_pages(file: Path) -> None:
    pytest.importorskip("matplotlib")
    for command in ("measure", "certify"):
        result = invoke(command, "checkpoints.py:make", "--metrics", "hessian_trace", "--html", f"{command}.html")
        assert result.exit_code == 0, result.stderr
        assert "hessian_trace v1" in (file.parent / f"{command}.html").read_text()
