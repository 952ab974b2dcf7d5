"""The way of a call through the library: which files it enters, in their order, and where it is called back from below.

    python docs/experiments/walk.py measure
    python docs/experiments/walk.py certify

A call goes up where the file that is entered imports, directly or not, the file that calls: a callback. Calls of the oracle are not
counted, since everything is handed one. The model is a NumPy network.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import invariant_sharpness as ish
import invariant_sharpness_numpy
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

ROOTS = [Path(module.__file__ or "").parent.parent for module in (ish, invariant_sharpness_numpy)]
JOBS = {
    "measure": lambda oracle: ish.measure(oracle, ["hessian_trace", "normalized_sharpness"]),
    "certify": lambda oracle: ish.certify(oracle, ["normalized_sharpness"]),
}


def oracle() -> NetworkOracle:
    """A network whose diagonal is exact."""
    random = np.random.default_rng(0)
    network = ReluNetwork.initialize((4, 6, 3), seed=0)
    return NetworkOracle(network, random.standard_normal((30, 4)), random.integers(0, 3, 30))


class Walk:
    """Files that were entered, and steps from file to file."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.steps: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """See one call."""
        there, here = place(frame.f_code.co_filename), caller(frame)
        if event != "call" or there is None or here is None or there == here:
            return
        self.steps.add((here, there))
        if there not in self.files:
            self.files.append(there)

    @property
    def upwards(self) -> list[tuple[str, str]]:
        """Steps into a file that knows the one from which the step is made."""
        return sorted((a, b) for a, b in self.steps if a in known_to(b) and not b.endswith(("oracle.py", "engine.py")))


@cache
def place(file: str) -> str | None:
    """The file's path within its source root, if it is the library's."""
    for root in ROOTS:
        if Path(file).is_relative_to(root) and Path(file).relative_to(root).parts[0].startswith("invariant_sharpness"):
            return str(Path(file).relative_to(root))
    return None


def caller(frame: FrameType) -> str | None:
    """The library's file from which a frame was called, whatever lies between."""
    above = frame.f_back
    while above is not None and place(above.f_code.co_filename) is None:
        above = above.f_back
    return place(above.f_code.co_filename) if above is not None else place(frame.f_code.co_filename)


@cache
def known_to(file: str) -> frozenset[str]:
    """All files that a file imports, and those that they import."""
    found: set[str] = set()
    ahead = [file]
    while ahead:
        new = set(imports(ahead.pop())) - found
        found |= new
        ahead += new
    return frozenset(found - {file})


@cache
def imports(file: str) -> tuple[str, ...]:
    """The library's files that one imports by name."""
    path = next(root / file for root in ROOTS if (root / file).exists())
    nodes = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ImportFrom)]
    modules = [node for node in nodes if node.module and node.module.startswith("invariant_sharpness")]
    named = [f"{node.module}.{alias.name}" for node in modules for alias in node.names]
    candidates = [
        name.replace(".", "/") for name in (*named, *(n.module or "" for n in modules if "." in (n.module or "")))
    ]
    paths = [p for name in candidates for p in (f"{name}.py", f"{name}/__init__.py")]
    return tuple(p for p in paths if any((root / p).exists() for root in ROOTS))


if __name__ == "__main__":
    job, measured, walk = JOBS[sys.argv[1]], oracle(), Walk()
    sys.setprofile(walk)
    job(measured)
    sys.setprofile(None)
    print(*walk.files, sep="\n")
    print(f"\n{len(walk.files)} files; {len(walk.upwards)} calls that go back up:")
    print(*(f"{here} -> {there}" for here, there in walk.upwards), sep="\n")
