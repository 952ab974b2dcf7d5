"""A value from a diagonal that is drawn until its error is small enough, in two stages, within a budget.

The first stage spends a quarter of the budget, and its interval says what the second one needs, as errors fall with the root of what is
spent. The second stage draws everything anew, so that its draws were not chosen for their result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.results.estimate import Estimate

_FIRST = 0.25
"""Share of the budget that the first stage may spend."""


def to_error(
    diagonal_within: Callable[[float, int], HessianDiagonal],
    measured: Callable[[HessianDiagonal], Estimate],
    *,
    relative_error: float,
    budget: float | None,
) -> Estimate:
    """Return the value from as few gradients as its error needs.

    Parameters
    ----------
    diagonal_within
        The diagonal from a budget, of the first or the second stage.
    measured
        The value from a diagonal.
    relative_error
        Half of what the 95 % interval reaches from the value, over the value.
    budget
        What both stages together may cost in gradients.

    Raises
    ------
    ArgumentError
        If the error is not positive, or there is no budget.
    """
    if not relative_error > 0 or budget is None:
        msg = f"relative_error={relative_error} and budget={budget}, but it takes a positive fraction of the value, such as 0.01, and the gradients that may be spent at most, such as 200"
        raise ArgumentError(msg)
    try:
        first = diagonal_within(_FIRST * budget, 0)
    except ArgumentError:  # a quarter is too little for any value: there is one stage alone
        return _judged(measured(diagonal_within(budget, 1)), relative_error, budget)
    estimate = measured(first)
    if first.plan is None or error_of(estimate) <= relative_error:
        return estimate
    needed = first.plan.gradients * (error_of(estimate) / relative_error) ** 2
    second = diagonal_within(min(needed, budget - first.plan.gradients), 1)
    return _judged(measured(second), relative_error, budget)


def error_of(estimate: Estimate) -> float:
    """Return half of what the 95 % interval reaches from the value, over the value."""
    lower, upper = estimate.interval()
    reach = max(upper - estimate.value, estimate.value - lower)
    return reach / (2 * abs(estimate.value)) if estimate.value else float(reach > 0)


def _judged(estimate: Estimate, relative_error: float, budget: float) -> Estimate:
    reached = error_of(estimate)
    if reached <= relative_error:
        return estimate
    note = f"relative error {reached:.2g} instead of {relative_error:g} within {budget:g} gradients"
    return replace(estimate, converged=False, notes=(*estimate.notes, note))
