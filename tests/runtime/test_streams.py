"""No two draws of the library share a stream of random numbers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness
from invariant_sharpness import ParameterGroup, prng
from invariant_sharpness.prng import Stream
from invariant_sharpness_numpy import FunctionOracle

CORE = Path(invariant_sharpness.__file__).parent
BACKENDS = Path(prng.__file__).parents[1] / "backends"
DRAWING = {"random_bits", "uniform_values", "normal_values"}
GROUPS = 3000


def calls_that_draw() -> list[tuple[str, ast.expr]]:
    """Where the library names a stream, and the expression that names it; but for the generators themselves."""
    paths = [path for root in (CORE, BACKENDS) for path in root.rglob("*.py") if path != CORE / "prng.py"]
    nodes = [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return [
        (f"{path.name}:{node.lineno}", node.args[1])
        for path, node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in DRAWING
    ]


def test_no_two_streams_have_one_number() -> None:
    shared = {name: stream for name, stream in Stream.__members__.items() if stream.name != name}
    assert not shared, f"these are other names of a stream that exists: {shared}"


@pytest.mark.parametrize("role", ["matrix", "bias"])
def test_streams_of_parameter_groups_are_none_of_the_enumeration(role: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"output_axes": (0,), "input_axes": (1,)} if role == "matrix" else {"output_axes": (0,)}
    shape = (1, 1) if role == "matrix" else (1,)
    groups = tuple(ParameterGroup(f"{k}", shape, role, **axes) for k in range(GROUPS))
    zeros = {group.name: np.zeros(shape) for group in groups}
    drawn: list[int] = []
    original = prng.random_bits
    monkeypatch.setattr(prng, "random_bits", lambda *key: (drawn.append(key[1]), original(*key))[1])
    prng.signs(FunctionOracle(zeros, lambda _: 0.0, lambda _: zeros, lambda _p, _v: zeros, groups), 0, 0)
    assert len(set(drawn)) == GROUPS, f"{GROUPS} groups took {len(set(drawn))} streams"
    assert max(drawn) < min(Stream), f"stream {max(drawn)} of a group, but the enumeration starts at {min(Stream)}"


def test_streams_are_named_by_the_enumeration_alone() -> None:
    """A variable ``stream`` counts the arrays of a model, as the streams of parameter groups do."""
    named = {f"Stream.{stream.name}" for stream in Stream}
    used = {place: ast.unparse(stream) for place, stream in calls_that_draw()}
    wrong = {place: text for place, text in used.items() if text.removeprefix("prng.") not in named | {"stream"}}
    assert used, "no call that draws was found"
    assert not wrong, f"streams outside of the enumeration: {wrong}"


def test_numbers_of_the_streams_are_those_of_version_0_1() -> None:
    values = sorted(stream.value for stream in Stream)
    assert values[:4] == [2**32 + k for k in range(4)], values
    assert values[4:12] == [2**k for k in range(33, 41)], values
