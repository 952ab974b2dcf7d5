"""The suite for metrics of others runs from the command line of pytest, without a test file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from invariant_sharpness.evaluation.targets import TargetError, load_metric

METRICS = """
import numpy as np
import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork

data = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
oracle = ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), data)
number = 7

def adaptive(oracle):
    return (oracle.parameters * oracle.gradient(oracle.parameters)).norm()

def negative(oracle):
    return -adaptive(oracle)
"""
SUITE = ("--pyargs", "invariant_sharpness.testing.suite")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_metrics.py").write_text(METRICS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


def suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a user does; the plugin by its name, should the library not be installed here."""
    options = ["-p", "invariant_sharpness_pytest", "-p", "no:cacheprovider", "-rA", "-W", "error"]
    command = [sys.executable, "-m", "pytest", *options, *SUITE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_correct_metric_passes_on_a_model_of_ones_own(folder: Path) -> None:
    run = suite(
        folder,
        "--invariant-metric",
        "my_metrics:adaptive",
        "--invariant-model",
        "my_metrics:oracle",
        "--invariant-claims",
        "row_column,layer",
    )
    assert run.returncode == 0, run.stdout
    assert "test_metric[adaptive-check_invariance[row_column]]" in run.stdout, run.stdout
    assert "8 passed, 2 skipped" in run.stdout, run.stdout


def test_failure_is_named_by_metric_and_check_and_shows_the_numbers(folder: Path) -> None:
    run = suite(
        folder,
        "--invariant-metric",
        "my_metrics.py:negative",
        "--invariant-model",
        "my_metrics.py:oracle",
        "--invariant-claims",
        "row_column",
    )
    assert run.returncode == 1, run.stdout
    assert "FAILED" in run.stdout, run.stdout
    assert "test_metric[negative-check_nonnegative]" in run.stdout, run.stdout
    assert "negative is -0." in run.stdout, run.stdout


@pytest.mark.slow
def test_expected_failure_is_no_failure(folder: Path) -> None:
    run = suite(
        folder,
        *(
            "--invariant-metric",
            "my_metrics:negative",
            "--invariant-model",
            "my_metrics:oracle",
            "--invariant-claims",
            "row_column",
        ),
        *("--invariant-expected-failure", "check_nonnegative=it counts downwards"),
    )
    assert run.returncode == 0, run.stdout
    assert "1 xfailed" in run.stdout, run.stdout


@pytest.mark.slow
def test_default_networks_need_no_model(folder: Path) -> None:
    run = suite(
        folder,
        "--invariant-metric",
        "my_metrics:adaptive",
        "--invariant-claims",
        "row_column",
        "-k",
        "row_column or batch_size",
    )
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout, run.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            (), "there is no metric to test: give --invariant-metric package.module:metric", marks=pytest.mark.slow
        ),
        (("--invariant-metric", "my_metrics:missing"), "functions in it are adaptive, negative"),
        pytest.param(
            ("--invariant-metric", "my_metrics:adaptive", "--invariant-claims", "rows"),
            "there is no invariance 'rows'",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["no metric", "no such metric", "no such claim"],
)
def test_wrong_command_says_what_to_write(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    run = suite(folder, *arguments)
    assert run.returncode != 0, run.stdout
    assert words in run.stdout, run.stdout


def test_plugin_loads_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); import invariant_sharpness_pytest; print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()} - set(sys.stdlib_module_names)
    assert loaded == {"invariant_sharpness_pytest"}, f"every run of pytest, in every project, would load {loaded}"


def test_metric_of_the_library_is_loaded_by_its_name() -> None:
    assert load_metric("hessian_trace") == "hessian_trace"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("trace", "'trace' names no metric: write file.py:name or package.module:name"),
        ("my_metrics.py:number", "'number' in my_metrics.py is of type int, but a metric is a callable"),
        ("my_metrics.py:missing", "'missing' in my_metrics.py is not there"),
        ("nowhere.py:metric", "there is no file 'nowhere.py'"),
    ],
)
def test_wrong_target_of_a_metric_is_refused(target: str, words: str) -> None:
    with pytest.raises(TargetError, match=words):
        load_metric(target)
