"""When to measure in the course of a training run: by the number of the step, and by what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import floor, log10
from numbers import Integral, Real
from typing import Any, Literal

from invariant_sharpness.errors import ArgumentError, ArgumentTypeError

Every = int | Literal["log"] | Callable[[int], Any]
"""So many steps; steps whose logarithms are evenly spaced; or ``step -> whether to measure``."""

PER_DECADE = 10
"""So many entries there are, at most, from a step to the one of ten times its number, if steps are spaced logarithmically."""


class Schedule:
    """Which steps are due.

    Parameters
    ----------
    every
        A number of steps n: the first step that is seen is due, and whenever a multiple of n is reached or passed. ``"log"``: the same with
        :math:`10^{k/10}` in the place of multiples. A callable: the steps of which it says so.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If it is none of these.

    Examples
    --------
    >>> schedule = Schedule("log")
    >>> [step for step in range(40) if schedule.is_due(step)]
    [0, 1, 2, 3, 4, 6, 7, 8, 10, 13, 16, 20, 26, 32]
    """

    def __init__(self, every: Every) -> None:
        _check_every(every)
        self._every = every
        self._last: int | None = None

    def is_due(self, step: int) -> bool:
        """Whether to measure at this step, after those that were asked for before."""
        if callable(self._every):
            return bool(self._every(step))
        number = _logarithmic(step) if isinstance(self._every, str) else step // self._every
        is_other, self._last = number != self._last, number
        return is_other


class Budget:
    """How much time measurements take, and whether another one fits into a share of the time of training.

    Parameters
    ----------
    at_most
        The share, or None for any.
    """

    def __init__(self, at_most: float | None) -> None:
        is_number = isinstance(at_most, Real) and not isinstance(at_most, bool)
        if at_most is not None and not (is_number and 0 < at_most < float("inf")):
            msg = f"at_most={at_most!r}, but it is a positive share of the time of training, such as 0.05, or None"
            raise ArgumentError(msg)
        self._at_most = at_most
        self._started: float | None = None
        self._next = 0.0
        self.spent = 0.0

    @property
    def trained(self) -> float:
        """The seconds since the first step that no measurement took."""
        return 0.0 if self._started is None else time.perf_counter() - self._started - self.spent

    def affords_another(self) -> bool:
        """Whether a measurement as long as the last one fits. The first one does, since nobody knows how long it takes."""
        if self._started is None:
            self._started = time.perf_counter()
        return self._at_most is None or self.spent + self._next <= self._at_most * self.trained

    def spend(self, seconds: float) -> None:
        """Count a measurement."""
        self.spent += seconds
        self._next = seconds


def _check_every(every: object) -> None:
    if callable(every) or every == "log":
        return
    words = "every is a number of steps, 'log' or a callable such as lambda step: step in {0, 10, 1000}"
    if not isinstance(every, Integral) or isinstance(every, bool):
        msg = f"every={every!r}, but {words}"
        raise ArgumentTypeError(msg)
    if int(every) < 1:
        msg = f"every={every!r}, but {words}, and the number is positive"
        raise ArgumentError(msg)


def _logarithmic(step: int) -> int:
    """The number of the last mark 10^(k/10) that this step has reached; steps below one come before all."""
    return -1 if step < 1 else floor(PER_DECADE * log10(step))
