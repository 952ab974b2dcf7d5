"""What a monitor has written is there after a crash, a torn line, and a disk that failed for a while."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from invariant_sharpness.errors import ArgumentError, CheckpointError
from invariant_sharpness.evaluation.monitoring import History, Monitor
from zoo.watched_runs import at, watched, wrong


def same(first: History, second: History) -> bool:
    """Whether two histories have the same entries, written as JSON, which has no NaN that differs from itself."""
    return [json.dumps(entry.to_dict()) for entry in first] == [json.dumps(entry.to_dict()) for entry in second]


def test_entries_survive_the_file(tmp_path: Path) -> None:
    metrics = ["normalized_sharpness", "worst_case_sharpness", "hessian_trace", wrong]
    monitor = watched(3, metrics, every=1, path=tmp_path / "run.jsonl")
    assert same(Monitor.load(tmp_path / "run.jsonl"), monitor)
    monitor.save(tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == (tmp_path / "run.jsonl").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.jsonl", "run.jsonl"]


def test_a_torn_last_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    monitor = watched(3, every=1, path=path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in (len(whole) - 1, len(whole) - len(lines[-1]) // 2):
        path.write_bytes(whole[:size])
        assert [entry.step for entry in Monitor.load(path)] == [0, 1]
        assert path.stat().st_size == size, "reading changes nothing"
    again = watched(1, every=1, path=path)
    assert [(entry.step, entry.run) for entry in again] == [(0, 0), (1, 0), (0, 1)]
    assert path.read_bytes().startswith(b"".join(lines[:-1]) + b'{"monitor"')
    assert same(Monitor.load(path), again)
    assert same(History([], monitor[:2]), History([], again[:2]))


def test_files_of_others_are_refused_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    watched(1, path=path)
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=r"has entries of hessian_spectral_norm v1.* hessian_trace"):
        Monitor("hessian_trace", path=path)
    assert path.read_bytes() == before
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(CheckpointError, match="line 1 of"):
        Monitor.load(path)
    path.write_text('{"monitor": 99}\n')
    with pytest.raises(CheckpointError, match="format 99"):
        Monitor.load(path)
    with pytest.raises(CheckpointError, match="could not be read"):
        Monitor.load(tmp_path / "none.jsonl")


def test_a_disk_that_fails_for_a_while_does_not_end_the_training(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    monitor = watched(1, every=1, path=folder / "run.jsonl")
    folder.rename(tmp_path / "away")
    with pytest.warns(RuntimeWarning, match="the entry of step 1 is not in"):
        monitor.step(at(1.0, 1.0), step=1)
    (tmp_path / "away").rename(folder)
    monitor.step(at(1.0, 1.0), step=2)
    assert [entry.step for entry in Monitor.load(folder / "run.jsonl")] == [0, 1, 2]


RUN = """
import sys, numpy as np, invariant_sharpness as ish
from invariant_sharpness_numpy import quadratic
monitor = ish.Monitor("hessian_spectral_norm", every=1, path=sys.argv[1])
for step in range(100000):
    monitor.step(quadratic(np.diag([1.0, 4.0]), np.ones((1, 2))), step=step)
    print(step, flush=True)
"""


def test_a_run_that_is_killed_loses_at_most_the_entry_under_way(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with subprocess.Popen([sys.executable, "-c", RUN, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(next(process.stdout)) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    kept = [entry.step for entry in Monitor.load(path)]
    assert kept[: len(told)] == told
    assert len(kept) - len(told) in {0, 1}
    assert [entry.step for entry in watched(1, path=path)] == [*kept, 0]
