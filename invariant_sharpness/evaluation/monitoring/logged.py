"""What a loop tells beside its model: the number of the step, and values of its own for the entry."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from invariant_sharpness.errors import ArgumentError, ArgumentTypeError
from invariant_sharpness.evaluation.monitoring.entries import COLUMNS, VALUES


def step_number(step: Any) -> int:
    """Return the number of a step; raise :class:`ArgumentTypeError` if it is no integer."""
    try:
        return operator.index(step)
    except TypeError as error:
        msg = f"step={step!r}, but it is the number of the step, an integer"
        raise ArgumentTypeError(msg) from error


def check_names(logged: Mapping[str, Any]) -> None:
    """Raise :class:`ArgumentError` if a name is that of a column of its own."""
    if taken := sorted(logged.keys() & {*COLUMNS, *VALUES}):
        msg = f"monitor.step was given {', '.join(f'{name}=...' for name in taken)}, which the entries have as a column of their own: take another name"
        raise ArgumentError(msg)


def plain_value(value: Any) -> Any:
    """Return a value that JSON has: numbers of any framework, and what is no number as its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return value.item() if hasattr(value, "item") else float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)
