"""The command line: results on stdout, all else on stderr, and an exit code that tells how it went."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

from invariant_sharpness import METRICS
from invariant_sharpness.cli import main
from zoo.command_line import SOURCE, invoke, plain

COMMAND = [sys.executable, "-m", "invariant_sharpness.cli"]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "cli_target.py"
    path.write_text(SOURCE)
    return path


def test_console_script_is_the_command_line() -> None:
    (script,) = entry_points(group="console_scripts", name="invariant-sharpness")
    assert script.load() is main


def test_version_is_that_of_the_distribution() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"invariant-sharpness {version('invariant-sharpness')}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["-h"],
        ["demo", "--help"],
        ["measure", "-h"],
        ["metrics", "--help"],
        ["doctor", "--help"],
        ["certify", "-h"],
    ],
)
def test_help_is_there(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert "Usage" in result.stdout, result.stdout


def test_help_of_measure_says_that_the_target_is_run() -> None:
    assert "IMPORTED AND RUN" in plain(invoke("measure", "--help").stdout)


def test_start_up_imports_no_framework_and_no_plotting() -> None:
    code = (
        "import sys, invariant_sharpness.cli; "
        "print([m for m in ('torch', 'jax', 'tensorflow', 'keras', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout


def test_measure_prints_every_metric(target: Path) -> None:
    result = invoke("measure", f"{target}:build")
    assert result.exit_code == 0, result.output
    missing = [name for name, metric in METRICS.items() if metric.default and name not in result.stdout]
    assert not missing, f"{missing} missing in\n{result.stdout}"


def test_measure_json_is_all_there_is_on_stdout(target: Path) -> None:
    result = invoke("measure", f"{target}:build", "--metrics", "hessian_trace, normalized_sharpness", "--json")
    read = json.loads(result.stdout)
    assert list(read["metrics"]) == ["hessian_trace", "normalized_sharpness"]
    assert read["target"] == f"{target}:build", f"{read['target']!r} is not what was measured"
    assert "the target speaks" in result.stderr


def test_a_plan_has_nothing_to_write(target: Path, tmp_path: Path) -> None:
    result = invoke("measure", f"{target}:build", "--plan", "--csv", str(tmp_path / "report.csv"))
    assert result.exit_code == 2, result.output
    assert "there is nothing for --csv" in plain(result.stderr)
    assert not (tmp_path / "report.csv").exists()


def test_plan_says_what_it_costs_and_measures_nothing(target: Path) -> None:
    result = invoke("measure", f"{target}:build", "--metrics", "hessian_trace", "--plan")
    assert result.exit_code == 0, result.output
    assert "the diagonal that they share" in plain(result.stdout), result.stdout
    read = json.loads(invoke("measure", f"{target}:build", "--metrics", "hessian_trace", "--plan", "--json").stdout)
    assert read["target"] == f"{target}:build", f"{read}"
    assert read["costs"]["hessian_trace"]["why"] == "", f"{read}"


def test_measure_passes_seed_and_probes(target: Path) -> None:
    def value(*options: str) -> dict[str, Any]:
        arguments = ["--metrics", "hessian_frobenius_norm", "--json", "--probes", "5", *options]
        found: dict[str, Any] = json.loads(invoke("measure", f"{target}:build", *arguments).stdout)
        return found["metrics"]["hessian_frobenius_norm"]

    assert value("--seed", "1") == value("--seed", "1")
    assert value("--seed", "1")["value"] != value("--seed", "2")["value"]
    assert value()["method"] == "0 Krylov directions, 5 probes"


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        ([], 1, "normalized_cross_entropy divides by the standard deviation"),
        (["--loss", "cross_entropy"], 0, ""),
        (["--loss", "hinge"], 1, "loss='hinge' is not known"),
        (["--dtype", "float64"], 2, "the NumPy backend has no option 'dtype'"),
        (["--dtype", "float16"], 2, "'float16' is not one of 'float32', 'float64'"),
    ],
)
def test_loss_and_precision_can_be_chosen_for_a_model(
    target: Path, options: list[str], exit_code: int, words: str
) -> None:
    result = invoke("measure", f"{target}:constant", "--metrics", "hessian_trace", *options)
    assert result.exit_code == exit_code, result.output
    assert words in plain(result.stderr), result.stderr


def test_loss_of_an_oracle_cannot_be_chosen(target: Path) -> None:
    result = invoke("measure", f"{target}:build", "--loss", "mse")
    assert result.exit_code == 2, result.output
    assert "is an oracle, which has been made already: loss can be chosen for a tuple" in plain(result.stderr)


@pytest.mark.parametrize("arguments", [("certify", "--metrics", "hessian_trace"), ("doctor",)])
def test_json_names_its_target(target: Path, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    assert json.loads(invoke(command, f"{target}:build", *options, "--json").stdout)["target"] == f"{target}:build"


def test_measure_writes_csv_and_picture(target: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "report.csv", tmp_path / "groups.png"
    result = invoke("measure", f"{target}:build", "--csv", table, "--plot", picture)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["metric"] for row in rows} == {name for name, metric in METRICS.items() if metric.default}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_measure_goes_on_in_the_folder_of_an_earlier_run(target: Path, tmp_path: Path) -> None:
    options = ("--metrics", "hessian_frobenius_norm", "--probes", 8, "--json", "--resume", tmp_path / "state")
    first, second = (json.loads(invoke("measure", f"{target}:build", *options).stdout) for _ in range(2))
    assert first["metrics"] == second["metrics"], f"{second['metrics']} after {first['metrics']}"


def test_measure_refuses_a_folder_that_is_no_checkpoint(target: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = invoke("measure", f"{target}:build", "--resume", tmp_path)
    assert result.exit_code == 1, f"exit code {result.exit_code}"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_error_of_the_library_is_a_message_and_exit_code_1(target: Path) -> None:
    result = invoke("measure", f"{target}:badly_labelled")
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1].startswith("error: "), result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_error_of_the_users_code_keeps_its_traceback(target: Path) -> None:
    result = invoke("measure", f"{target}:fails")
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError), result.exception


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--metrics", "hessian_tracee"],
            "there is no metric 'hessian_tracee' (did you mean 'hessian_trace'?); the metrics are",
        ),
        (["--metrics", "sharpness"], "or 'normalized_sharpness'?"),
        (["--metrics", ""], "it names no metric; the metrics are hessian_trace,"),
        (["--metrics", ","], "it names no metric"),
        (["--seed", "-1"], "-1 is not a seed"),
        (["--seed", str(2**63)], "is not a seed: it is an integer from 0 to 2**63 - 1"),
        (["--probes", "3"], "--probes"),
        (["--plot", "picture.bmp"], "'picture.bmp' should end in .png, .pdf or .svg"),
        (["--plot", "absent/picture.png"], "the folder 'absent' does not exist"),
        (["--csv", "absent/report.csv"], "the folder 'absent' does not exist"),
        (["--unknown"], "No such option: --unknown"),
    ],
)
def test_wrong_option_is_exit_code_2(target: Path, options: list[str], message: str) -> None:
    result = invoke("measure", f"{target}:build", *options)
    assert result.exit_code == 2, result.output
    assert message in plain(result.stderr), result.stderr
    assert result.stdout == ""


def test_picture_without_shares_is_refused_after_the_report(target: Path, tmp_path: Path) -> None:
    options = ["--metrics", "hessian_spectral_norm", "--plot", tmp_path / "picture.png"]
    result = invoke("measure", f"{target}:build", *options)
    assert result.exit_code == 2, result.output
    assert "hessian_spectral_norm has no value per parameter" in plain(result.stderr), result.stderr
    assert "hessian_spectral_norm" in result.stdout


def test_file_that_cannot_be_written_does_not_cost_the_report(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "absent" / "report.csv")
    result = invoke("measure", f"{target}:build", "--csv", link)
    assert result.exit_code == 1, result.output
    assert f"error: cannot write {link}: No such file or directory" in result.stderr, result.stderr
    assert "normalized_sharpness" in result.stdout


def test_demo_refuses_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("demo", "--output", tmp_path / "file" / "folder")
    assert result.exit_code == 1, result.output
    assert "error: cannot write" in result.stderr, result.stderr


@pytest.mark.parametrize("name", ["no_colon", "absent.py:build", "json:absent"])
def test_wrong_target_is_exit_code_2(name: str) -> None:
    result = invoke("measure", name)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: "), result.stderr


def test_demo_refuses_an_unknown_backend_with_the_names_there_are(tmp_path: Path) -> None:
    result = invoke("demo", "--backend", "nope", "--output", tmp_path)
    assert result.exit_code == 1
    assert re.search(r"there is no backend 'nope'; installed: .*numpy", result.stderr), result.stderr


def test_demo_refuses_a_backend_that_cannot_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Measuring:
        name = "measuring only"

        def accepts(self, model: object, /) -> bool:
            raise NotImplementedError

        def oracle(self, model: Any, data: Any, /, *, loss: Any, **options: Any) -> Any:
            raise NotImplementedError

    monkeypatch.setattr("invariant_sharpness.cli.demonstration.command.backend", lambda _: Measuring())
    result = invoke("demo", "--backend", "mine", "--output", tmp_path)
    assert result.exit_code == 1
    assert "the backend 'mine' cannot train the network of the demonstration" in result.stderr


def test_process_that_fails_exits_with_1_and_no_traceback(target: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "measure", f"{target}:badly_labelled"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done
    assert "error: " in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child process")
def test_interrupted_process_exits_with_130_and_no_traceback(target: Path) -> None:
    # A suite that runs in the background ignores Ctrl-C, and its children would inherit that.
    program = f"""
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = {["invariant-sharpness", "measure", f"{target}:endless"]}
runpy.run_module("invariant_sharpness.cli", run_name="__main__")
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    with process:
        assert process.stderr is not None
        while "started" not in process.stderr.readline():
            assert process.poll() is None, "the process ended before it could be interrupted"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, (process.returncode, rest)
    assert "interrupted" in rest, rest
    assert "Traceback" not in rest, rest
