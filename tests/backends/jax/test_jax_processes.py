"""Two processes of ``jax.distributed`` with global arrays, against one process that has all of them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    folder = tmp_path_factory.mktemp("states")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "zoo.jax_distributed", str(rank), port, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT / "tests",
        )
        for rank in range(2)
    ]
    ended = [run.communicate() for run in runs]
    for run, (_, errors) in zip(runs, ended, strict=True):
        assert run.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in ended], folder


@pytest.mark.parametrize("layout", ["data", "both"])
def test_all_metrics_are_those_of_one_process(answers: tuple[list[Any], Path], layout: str) -> None:
    for answer in answers[0]:
        for name, found in answer[layout].items():
            value = answer["expected"][name]
            size = max(np.abs(value))
            assert found == pytest.approx(value, rel=1e-12, abs=1e-12 * size), f"{name}: {found} instead of {value}"


@pytest.mark.parametrize("layout", ["data", "both"])
def test_all_processes_have_the_same_bits(answers: tuple[list[Any], Path], layout: str) -> None:
    first, second = (answer[layout] for answer in answers[0])
    assert first == second


def test_data_of_one_process_alone_are_refused(answers: tuple[list[Any], Path]) -> None:
    for answer in answers[0]:
        assert "jax.make_array_from_process_local_data" in answer["error"], answer["error"]


def test_checkpoint_is_used_by_the_first_process_and_resumes_all(answers: tuple[list[Any], Path]) -> None:
    found, folder = answers
    for answer in found:
        resumed, once = answer["resumed"]
        assert resumed == once
    assert [path.name for path in folder.iterdir()] == ["0"]
