"""The costs on a GPU: measured where there is one, and otherwise left out by name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

EXPERIMENT = Path(__file__).parents[2] / "docs" / "experiments" / "gpu.py"


@pytest.fixture
def gpu() -> Any:
    spec = importlib.util.spec_from_file_location("gpu", EXPERIMENT)
    assert spec is not None, f"{EXPERIMENT} is missing"
    assert spec.loader is not None, f"{EXPERIMENT} cannot be loaded"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so_and_measures_nothing(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "card", lambda: None)
    gpu.main(["--output", str(tmp_path / "table.txt")])
    said = capsys.readouterr().out
    assert said.startswith("no GPU: PyTorch"), f"it says {said!r}"
    assert not list(tmp_path.iterdir()), f"it wrote {list(tmp_path.iterdir())}"


def test_every_program_that_it_runs_is_there_and_named_in_the_table(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []
    run = lambda command, **_: (asked.append(command), SimpleNamespace(stdout=f"table {len(asked)}"))[1]  # noqa: E731
    monkeypatch.setattr(gpu, "card", lambda: gpu.Card("cuda", "some card"))
    monkeypatch.setattr(gpu.subprocess, "run", run)
    gpu.main(["--output", str(tmp_path / "table.txt")])
    written = (tmp_path / "table.txt").read_text(encoding="utf-8")
    assert written.startswith("some card, PyTorch"), f"it wrote {written!r}"
    for number, command in enumerate(asked, start=1):
        assert Path(command[1]).is_file(), f"{command[1]} is no program"
        assert f"table {number}" in written, f"what {command[1]} printed is not in {written!r}"
    assert [Path(command[1]).name for command in asked] == ["cost.py", "draw_costs.py", "probes.py", "memory.py"]


@pytest.mark.slow
def test_the_costs_are_measured_on_the_gpu_that_there_is(gpu: Any, tmp_path: Path) -> None:
    if gpu.card() is None:
        pytest.skip("no GPU: PyTorch sees neither CUDA nor XPU nor MPS")
    command = [sys.executable, str(EXPERIMENT), "--output", str(tmp_path / "table.txt")]
    subprocess.run(command, check=True)
    assert gpu.card().name in (tmp_path / "table.txt").read_text(encoding="utf-8")
