"""As many draws as a given error needs, without the bias of stopping when the running mean looks still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import numpy as np
from scipy.special import gammaincinv

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.traces.hutchinson import Samples, mean_estimate, require_products, signed_forms
from invariant_sharpness.protocol import CurvatureOracle

_CONFIDENCE = 0.95
"""Chance that the variance is not larger than the one that the pilot draws are taken to say."""


def hutchinson_trace_within(
    oracle: CurvatureOracle, *, relative_error: float = 0.01, pilot: int = 16, most: int = 10_000, seed: int = 0
) -> Estimate:
    """Hutchinson's trace with a standard error of at most this fraction of its value.

    As :func:`~invariant_sharpness.estimators.traces.hutchinson.hutchinson_trace`, with the number of products from
    :func:`mean_within`.

    Parameters
    ----------
    relative_error
        Standard error over value. The 95 % interval reaches about twice as far.
    pilot
        Draws that only say how many are needed.
    most
        Hessian-vector products in all. ``converged`` is False, and a note says by how much, if they do not suffice.

    Raises
    ------
    ValueError
        If the error is not positive, there are fewer than 4 pilot draws, or ``most`` is less than twice as many.
    """
    require_products("the pilot of hutchinson_trace_within", pilot, 4)
    require_products("hutchinson_trace_within", most, 2 * pilot)
    return mean_within(
        lambda indices: signed_forms(oracle, indices, seed),
        name="hutchinson_trace",
        relative_error=relative_error,
        pilot=pilot,
        most=most,
    )


def mean_within(
    sample: Callable[[range], Samples], *, name: str, relative_error: float, pilot: int, most: int
) -> Estimate:
    r"""The mean of independent draws, as many as its relative standard error needs.

    The pilot draws fix the number n of all others, once: with their mean m, their standard deviation s and
    :math:`\nu` = ``pilot`` - 1 degrees of freedom,

    .. math:: n = \frac{\nu s^2 / \chi^2_{\nu, 0.05}}{(\text{relative error} \cdot m)^2} .

    The fraction on top is an upper confidence limit of the variance. The others, with the indices that follow, are drawn
    afresh; the pilot draws are no part of the value, so neither it nor its error is biased (Stein 1945).

    Parameters
    ----------
    sample
        The draws with the given indices.
    """
    if not relative_error > 0:
        msg = f"relative_error={relative_error}, but it is a positive fraction of the value, such as 0.01"
        raise ValueError(msg)
    needed = max(_needed(sample(range(pilot)), relative_error), pilot)
    count = int(min(needed, most - pilot))
    result = mean_estimate(name, sample(range(pilot, pilot + count)), f"{count} draws after {pilot} pilot draws")
    reached = (result.standard_error or 0.0) / abs(result.value) if result.value else np.inf
    if reached <= relative_error or result.standard_error == 0:
        return result
    note = f"relative standard error {reached:.2g} instead of {relative_error:g} after {pilot + count} draws of at most {most}"
    return replace(result, converged=False, notes=(note,))


def _needed(draws: Samples, relative_error: float) -> float:
    freedom = len(draws) - 1
    least_of_chi_square = 2 * float(gammaincinv(freedom / 2, 1 - _CONFIDENCE))
    variance = freedom * float(np.var(draws, ddof=1)) / least_of_chi_square
    goal = (relative_error * float(draws.mean())) ** 2
    if variance == 0:
        return 0.0
    return ceil(variance / goal) if variance < goal * 1e15 else np.inf
