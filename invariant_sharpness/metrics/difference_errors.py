r"""What differences of gradients in the place of products with second derivatives do to the value of a metric.

A central difference is off by :math:`O(t^2)` in its step t, and by rounding, :math:`O(\varepsilon / t)`. So the whole metric is measured once more with steps
twice as long, from the same random numbers: what changes is three times the former, and half of the latter. It counts as standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from math import hypot
from typing import Any

from invariant_sharpness.protocol import CurvatureOracle, DifferenceOracle, capability, innermost, machine_epsilon
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.checkpoints import unstored

_FACTOR = 2.0

_inside: ContextVar[bool] = ContextVar("inside a metric", default=False)
"""Whether a metric is measured as a part of another one, whose error holds that of its parts."""


def with_difference_error(
    function: Callable[..., Estimate], args: Sequence[Any], options: Mapping[str, Any]
) -> Estimate:
    """Measure, and add the error of differences if any were taken; everything is measured twice then.

    Parameters
    ----------
    function
        From an oracle to an estimate.
    args, options
        What it is called with; a ``diagonal`` is computed anew for the other steps.

    Returns
    -------
    Estimate
        The value at the shorter step, with a note that says by how much the longer one changes it.
    """
    able = None if _inside.get() or not args else _taking_differences(args[0])
    if able is None:
        return function(*args, **options)
    token = _inside.set(True)
    try:
        before = able.differences_taken
        estimate = function(*args, **options)
        own = {name: value for name, value in options.items() if name != "diagonal"}
        if able.differences_taken == before and options.get("diagonal") is None:
            return estimate
        before = able.differences_taken
        with unstored(), able.other_step(_FACTOR):
            other = function(*args, **own)
        return estimate if able.differences_taken == before else _with_error(estimate, other, args[0])
    finally:
        _inside.reset(token)


def _taking_differences(oracle: CurvatureOracle) -> DifferenceOracle | None:
    return capability(innermost(oracle), DifferenceOracle)


def _with_error(estimate: Estimate, other: Estimate, oracle: CurvatureOracle) -> Estimate:
    """Add the change to the standard error, or to the relative gap of a value that has no other error."""
    least = machine_epsilon(oracle) ** (2 / 3) * abs(estimate.value)
    change = max(abs(other.value - estimate.value), least)
    note = f"second derivatives are differences of gradients or outputs: steps that are twice as long change the value by {change:.2g}"
    notes = (*estimate.notes, note)
    if estimate.standard_error is None and estimate.certificate and estimate.value:
        return replace(estimate, certificate=estimate.certificate + change / abs(estimate.value), notes=notes)
    return replace(estimate, standard_error=hypot(estimate.standard_error or 0.0, change), notes=notes)
