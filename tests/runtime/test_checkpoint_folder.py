"""What a checkpoint leaves on disk, and whose states it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.runtime import folder
from zoo.interrupted_loops import Interruptible, base, probe_by_probe, with_restarts


def test_state_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with ish.checkpoint(path, base()):
        ish.hessian_frobenius_norm(base(), probes=9)
    with (
        pytest.raises(CheckpointError, match=r"other values of layers\.0\.weight;"),
        ish.checkpoint(path, base(shift=1e-12)),
    ):
        pass


def test_state_of_other_data_is_refused(tmp_path: Path) -> None:
    path, oracle, brighter = tmp_path / "state", base(), base(brightness=1 + 1e-12)
    with ish.checkpoint(path, oracle):
        ish.hutchinson_trace(oracle, num_matvecs=9)
    with (
        pytest.raises(CheckpointError, match="other data or another loss, with a mean of"),
        ish.checkpoint(path, brighter),
    ):
        pass


def test_half_of_the_folder_is_refused(tmp_path: Path) -> None:
    path, oracle = tmp_path / "state", base()
    with ish.checkpoint(path, oracle):
        ish.xtrace(oracle, num_matvecs=12)
    next(file for file in path.iterdir() if " " in file.name).unlink()
    with pytest.raises(CheckpointError, match="a part of it is missing"), ish.checkpoint(path, oracle):
        ish.xtrace(oracle, num_matvecs=12)


def test_vectors_that_a_loop_no_longer_has_are_deleted(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "restarted", oracle):
        with_restarts(oracle)
    with ish.checkpoint(tmp_path / "finished", oracle):
        probe_by_probe(oracle)
    left = {name: sum(" " in file.name for file in (tmp_path / name).iterdir()) for name in ("restarted", "finished")}
    assert left["restarted"] <= 7, f"{left['restarted']} vectors on disk, of a loop that has up to 7 in memory"
    assert left["finished"] == 0, f"{left['finished']} vectors on disk, of probes that are finished"


def test_file_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this library"), ish.checkpoint(path, base()):
        pass
    assert path.read_text() == "precious"


def test_crash_while_writing_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, oracle = tmp_path / "state", base()
    with ish.checkpoint(path, oracle):
        ish.hessian_frobenius_norm(oracle, probes=9)
    before = contents(path)

    def crash(stream: Any, **_: Any) -> None:
        stream.write(b"half of it")
        raise OSError("the disk is full")

    monkeypatch.setattr(folder.np, "savez", crash)
    with pytest.raises(OSError, match="the disk is full"), ish.checkpoint(path, oracle):
        ish.hessian_frobenius_norm(oracle, probes=12)
    assert contents(path) == before


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix != ".partial"}


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this library"), ish.checkpoint(tmp_path, base()):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
