"""Processes that are killed, and several at once: the folder goes on from any of their states, and every value is right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.runtime import files
from zoo.interrupted_loops import LOOPS, Interruptible, base

WITH_VECTORS = ("eigenpairs", "eigenpairs with restarts", "xtrace", "normalized_sharpness")


def run(path: Path, name: str, oracle: Any = None) -> Any:
    oracle = oracle or Interruptible(base())
    with ish.checkpoint(path, oracle):
        return LOOPS[name](oracle)


@pytest.mark.parametrize(
    "name", [name if name == "xtrace" else pytest.param(name, marks=pytest.mark.slow) for name in WITH_VECTORS]
)
def test_kill_between_any_two_operations_leaves_a_folder_that_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each file is replaced or deleted, a copy of the folder is what a kill would leave, with 0, 30 or all bytes of the new one."""
    path, copies = tmp_path / "state", tmp_path / "copies"

    def leaving_copies(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Path, *arguments: Any, **options: Any) -> Any:
            if self.parent == path:
                for size in (0, 30, None):
                    copy = copies / str(len(list(copies.glob("*"))))
                    shutil.copytree(path, copy)
                    for partial in copy.glob("*.partial"):
                        os.truncate(partial, size if size is not None else partial.stat().st_size)
            return original(self, *arguments, **options)

        return call

    copies.mkdir()
    with monkeypatch.context() as patched:
        for method in ("replace", "unlink"):
            patched.setattr(files.Path, method, leaving_copies(getattr(Path, method)))
        expected = run(path, name)
    left = sorted(copies.iterdir(), key=lambda copy: int(copy.name))
    assert len(left) > 20, f"only {len(left)} copies"
    for copy in left[:: max(1, len(left) // 60)]:
        assert run(copy, name) == expected, f"another value from copy {copy.name} of {len(left)}"
        assert not list(copy.glob("*.partial")), f"copy {copy.name} keeps what a killed process was writing"


class Meeting(Interruptible):
    """An oracle that does something else at a certain product."""

    def __init__(self, base: Any, at: int, then: Callable[[], object]) -> None:
        super().__init__(base)
        self._at, self._then = at, then

    def hessian_vector_product(self, *arguments: Any) -> Any:
        if self.products + 1 == self._at:
            self._then()
        return super().hessian_vector_product(*arguments)


Meeting.__qualname__ = Interruptible.__qualname__  # the type of an oracle is part of what tells it from others


@pytest.mark.parametrize("at", [1, 2, 5, 9, 14])
@pytest.mark.parametrize("name", WITH_VECTORS)
def test_run_within_a_run_leaves_both_right_and_the_folder_whole(name: str, at: int, tmp_path: Path) -> None:
    path, inner = tmp_path / "state", []
    meeting = Meeting(base(), at, lambda: inner.append(run(path, name, Interruptible(base()))))
    outer, expected = run(path, name, meeting), LOOPS[name](Interruptible(base()))
    assert outer == expected, f"{outer} instead of {expected}"
    assert inner in ([], [expected]), f"{inner} instead of {expected}"
    assert run(path, name) == expected


def test_one_run_goes_on_where_another_was_interrupted_while_a_third_computes(tmp_path: Path) -> None:
    name, path = "eigenpairs", tmp_path / "state"
    going_on: list[Any] = []

    def others() -> None:
        with pytest.raises(KeyboardInterrupt):
            run(path, name, Interruptible(base(), 9))
        going_on.append(run(path, name))

    meeting = Meeting(base(), 4, others)
    expected = LOOPS[name](Interruptible(base()))
    assert [run(path, name, meeting), *going_on, run(path, name)] == [expected] * 3


@pytest.mark.parametrize("name", ["eigenpairs with restarts", "xtrace"])
def test_threads_on_one_folder_are_all_right(name: str, tmp_path: Path) -> None:
    expected = LOOPS[name](Interruptible(base()))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run(tmp_path / "state", name), range(8)))
    assert found == [expected] * 8
    assert run(tmp_path / "state", name) == expected


PROGRAM = """
import sys
import numpy as np
import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

random = np.random.default_rng(0)
network = ReluNetwork((random.normal(size=(30, 20)), random.normal(size=(5, 30))))
oracle = NetworkOracle(network, random.normal(size=(400, 20)), random.integers(0, 5, 400))
print("ready", flush=True)
with ish.checkpoint(sys.argv[1], oracle):
    pairs = ish.eigenpairs(oracle, largest=2, smallest=1, tolerance=1e-12, num_matvecs=300)
    trace = ish.xtrace(oracle, num_matvecs=60)
print([pair.value.hex() for pair in (*pairs.largest, *pairs.smallest)], trace.value.hex())
"""


def started(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return output


@pytest.mark.slow
def test_killed_process_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    began = time.monotonic()
    expected = finished(started(tmp_path / "whole"))
    for number in range(12):
        process = started(tmp_path / "killed")
        time.sleep(0.02 + 0.11 * number % 0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert finished(started(tmp_path / "killed")) == expected, f"after {time.monotonic() - began:.0f} s"


@pytest.mark.slow
def test_processes_on_one_folder_are_all_right(tmp_path: Path) -> None:
    expected = finished(started(tmp_path / "alone"))
    together = [started(tmp_path / "together") for _ in range(4)]
    together[0].send_signal(signal.SIGKILL)
    together[0].communicate()
    assert [finished(process) for process in together[1:]] == [expected] * 3
    assert finished(started(tmp_path / "together")) == expected
