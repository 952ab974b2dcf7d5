"""Means of independent draws to a given error, and the trace of the Hessian by Hutchinson's method to one.

A first stage says how many draws the error needs; the second makes them. Stopping when the running mean looks still would be biased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import numpy as np
from scipy.special import gammaincinv

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.hutchinson import Samples, mean_estimate, require_matvecs, signed_forms
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


@renamed(pilot="pilot_probes", most="num_matvecs")
@checked_numbers
def hutchinson_trace_within(
    oracle: CurvatureOracle,
    *,
    relative_error: float = 0.01,
    pilot_probes: int = 16,
    num_matvecs: int = 10_000,
    seed: int = 0,
) -> Estimate:
    r"""Hutchinson's trace with a standard error of at most this fraction of its value.

    .. math:: \frac{1}{n} \sum_{i=1}^{n} u_i^T H u_i

    As :func:`~invariant_sharpness.estimators.hutchinson.hutchinson_trace`, with as many probes n as the pilot probes say that the
    error needs. These are no part of the value, so that it has no bias (Stein 1945).

    Invariances: those of the trace, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: at most ``num_matvecs`` Hessian-vector products. Memory: no vector is kept.
    Source: Hutchinson (1989), Stein (1945).

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    relative_error
        Standard error over value. The 95 % interval reaches about twice as far.
    pilot_probes
        Number of random vectors that only say how many are needed; at least 4.
    num_matvecs
        Number of Hessian-vector products in all, at most. ``converged`` is False, and a note says by how much, if they do
        not suffice.
    seed
        Seed of the random signs.

    Returns
    -------
    Estimate
        The trace, with a standard error.

    Raises
    ------
    ArgumentError
        If the error is not positive, there are fewer than 4 pilot probes, or ``num_matvecs`` is less than twice as many.

    Examples
    --------
    Every draw is exact for a diagonal Hessian, so that no more than the least number is made:

    >>> from invariant_sharpness_numpy import quadratic
    >>> found = hutchinson_trace_within(quadratic([[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]]), pilot_probes=4)
    >>> found.value, found.method
    (5.0, '4 draws after 4 pilot draws')
    """
    require_matvecs("the pilot of hutchinson_trace_within", pilot_probes, 4)
    require_matvecs("hutchinson_trace_within", num_matvecs, 2 * pilot_probes)
    return mean_within(
        lambda indices: signed_forms(oracle, indices, seed),
        name="hutchinson_trace",
        relative_error=relative_error,
        pilot_draws=pilot_probes,
        num_draws=num_matvecs,
    )


_CONFIDENCE = 0.95
"""Chance that the variance is not larger than the one that the pilot draws are taken to say."""


def mean_within(
    sample: Callable[[range], Samples], *, name: str, relative_error: float, pilot_draws: int, num_draws: int
) -> Estimate:
    r"""Return the mean of independent draws, as many as its relative standard error needs.

    The pilot draws fix the number n of all others, once: with their mean m, their standard deviation s and
    :math:`\nu` = ``pilot_draws`` - 1 degrees of freedom,

    .. math:: n = \frac{\nu s^2 / \chi^2_{\nu, 0.05}}{(\text{relative error} \cdot m)^2} .

    The fraction on top is an upper confidence limit of the variance. The others, with the indices that follow, are drawn
    afresh; the pilot draws are no part of the value, so neither it nor its error is biased (Stein 1945).

    Parameters
    ----------
    sample
        The draws with the given indices.
    name
        The name of the estimate.
    relative_error
        Standard error over value.
    pilot_draws
        Number of draws that only say how many are needed.
    num_draws
        Number of draws in all, at most.
    """
    if not relative_error > 0:
        msg = f"relative_error={relative_error}, but it is a positive fraction of the value, such as 0.01"
        raise ArgumentError(msg)
    needed = max(_needed(sample(range(pilot_draws)), relative_error), pilot_draws)
    count = int(min(needed, num_draws - pilot_draws))
    result = mean_estimate(
        name, sample(range(pilot_draws, pilot_draws + count)), f"{count} draws after {pilot_draws} pilot draws"
    )
    reached = (result.standard_error or 0.0) / abs(result.value) if result.value else np.inf
    if reached <= relative_error or result.standard_error == 0:
        return result
    note = f"relative standard error {reached:.2g} instead of {relative_error:g} after {pilot_draws + count} draws of at most {num_draws}"
    return replace(result, converged=False, notes=(note,))


def _needed(draws: Samples, relative_error: float) -> float:
    freedom = len(draws) - 1
    least_of_chi_square = 2 * float(gammaincinv(freedom / 2, 1 - _CONFIDENCE))
    variance = freedom * float(np.var(draws, ddof=1)) / least_of_chi_square
    goal = (relative_error * float(draws.mean())) ** 2
    if variance == 0:
        return 0.0
    return ceil(variance / goal) if variance < goal * 1e15 else np.inf
