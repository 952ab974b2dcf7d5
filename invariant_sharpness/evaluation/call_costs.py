"""What calls to an oracle cost: they are counted by kind while a metric is rehearsed, and one of each kind is timed on a part of the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle, capability

SHARE, LEAST = 16, 32
"""Calls are timed on a sixteenth of the examples, and at least on 32: fewer take as long as the overhead of a call."""

Call = Callable[[Any, ParameterVector], object]
"""A call to an oracle, which has the capability for it, at its parameters."""

T = TypeVar("T")


@dataclass
class Account:
    """What metrics have asked for, and what the oracle itself has answered.

    Parameters
    ----------
    passes
        By kind of call: how many passes over the data.
    calls
        By kind: one such call.
    answers
        The oracle's answers to what decides the way, by question.
    waited
        Seconds that these answers took.
    """

    passes: dict[str, float] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    waited: float = 0.0

    def add(self, kind: str, call: Call, passes: float) -> None:
        self.calls[kind] = call
        self.passes[kind] = self.passes.get(kind, 0.0) + passes

    def passes_since(self, before: Mapping[str, float]) -> dict[str, float]:
        """Return what has been added to what there was before."""
        return {kind: count - before.get(kind, 0.0) for kind, count in self.passes.items()}

    def answer(self, question: str, ask: Callable[[], T]) -> T:
        """What the oracle has answered, or answers now."""
        if question not in self.answers:
            started = time.perf_counter()
            self.answers[question] = ask()
            self.waited += time.perf_counter() - started
        found: T = self.answers[question]
        return found


class CallCosts:
    """Times of calls to an oracle, each the less of two, so that what is compiled at first does not count.

    Parameters
    ----------
    oracle
        The oracle; calls are made on a part of its data if it has such parts.
    """

    def __init__(self, oracle: CurvatureOracle) -> None:
        self.seconds_per_gradient = _seconds(oracle, _gradient)
        self._part = _part(oracle)
        self._unit = self.seconds_per_gradient if self._part is oracle else _seconds(self._part, _gradient)
        self._known: dict[str, float] = {}

    def gradients(self, passes: Mapping[str, float], calls: Mapping[str, Call]) -> float:
        """What the calls cost together, in gradients."""
        return sum(times * self._of(kind, calls[kind]) for kind, times in passes.items())

    def _of(self, kind: str, call: Call) -> float:
        if kind not in self._known:
            self._known[kind] = _seconds(self._part, call) / self._unit
        return self._known[kind]


def _part(oracle: CurvatureOracle) -> CurvatureOracle:
    able = capability(oracle, SubsetOracle)
    if able is None or able.examples <= LEAST:
        return oracle
    return able.subset(range(max(LEAST, able.examples // SHARE)))


def _gradient(oracle: CurvatureOracle, at: ParameterVector) -> object:
    return oracle.gradient(at)


def _seconds(oracle: CurvatureOracle, call: Call) -> float:
    def once() -> float:
        started = time.perf_counter()
        _wait_for(call(oracle, oracle.parameters))
        return time.perf_counter() - started

    return min(once(), once())


def _wait_for(result: object) -> None:
    """Read a number of every vector: some frameworks return before they have computed."""
    for part in result if isinstance(result, list | tuple) else [result]:
        if isinstance(part, ParameterVector):
            part.norm()
