"""A zoo that is killed goes on where it stopped, and ends with the ledger of a run that was not."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from zoo_grid import Setting

from zoo import EXPERIMENTS


def program() -> ModuleType:
    """The program, whose name is that of a package of the tests."""
    pytest.importorskip("torch")
    spec = spec_from_file_location("zoo_experiment", EXPERIMENTS / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(setting: Setting, _: Path | None) -> dict[str, Any]:
    return setting.to_dict() | {"gap": setting.learning_rate / 10, "trace": float("nan")}


def test_a_killed_run_ends_with_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = program()
    monkeypatch.setattr(experiment, "network_line", line)
    whole, ledger = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    experiment.run("digits", None, whole)
    expected = whole.read_bytes()
    for size in np.random.default_rng(0).integers(0, len(expected), 10):
        ledger.write_bytes(expected[:size])
        experiment.run("digits", None, ledger)
        assert ledger.read_bytes() == expected, f"killed after {size} of {len(expected)} bytes"
