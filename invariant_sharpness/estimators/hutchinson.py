"""The trace of the Hessian by Hutchinson's method: plain, with a low-rank part taken out, to a given error, and group by group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, fsum

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from invariant_sharpness import prng as random
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.bases import OrthonormalBasis
from invariant_sharpness.estimators.products import cached_products, numbers_of_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.memory import reserve

Samples = npt.NDArray[np.float64]


@renamed(products="num_matvecs")
def hutchinson_trace(oracle: CurvatureOracle, *, num_matvecs: int = 64, seed: int = 0) -> Estimate:
    r"""Mean of :math:`u^T H u` over random signs u.

    .. math:: \operatorname{tr} H \approx \frac{1}{m} \sum_{i=1}^{m} u_i^T H u_i

    Unbiased, with variance :math:`2 \sum_{i \ne j} H_{ij}^2` of one draw. The draws are independent: the standard error is
    that of their mean.

    Invariances: those of the trace, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: ``num_matvecs`` Hessian-vector products. Memory: no vector is kept.
    Source: Girard (1989), Hutchinson (1989).

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    num_matvecs
        Number of Hessian-vector products, one for each draw; at least 2.
    seed
        Seed of the random signs.

    Returns
    -------
    Estimate
        The trace, with a standard error.

    Raises
    ------
    ValueError
        If ``num_matvecs`` is less than 2.

    Examples
    --------
    Every draw is exact for a diagonal Hessian:

    >>> from invariant_sharpness_numpy import quadratic
    >>> hutchinson_trace(quadratic([[2.0, 0.0], [0.0, 3.0]], [[1.0, 1.0]]), num_matvecs=4).value
    5.0
    """
    require_matvecs("hutchinson_trace", num_matvecs, 2)
    draws = signed_forms(oracle, range(num_matvecs), seed)
    return mean_estimate("hutchinson_trace", draws, f"Hutchinson, {num_matvecs} products")


@renamed(products="num_matvecs")
def hutch_plus_plus_trace(oracle: CurvatureOracle, *, num_matvecs: int = 64, seed: int = 0) -> Estimate:
    r"""Hutch++: the trace on the range of a sketch exactly, and the rest by Hutchinson's method.

    .. math:: \operatorname{tr}(Q^T H Q) + \frac{1}{k} \sum_{i=1}^{k} (P g_i)^T H (P g_i), \quad P = I - Q Q^T,
        \quad Q = \operatorname{orth}(H S)

    A third of the products makes the sketch, as many multiply its basis, and the rest are draws. S and all :math:`g_i`
    are random signs. Given Q the first term is known exactly and the draws of the second are independent and unbiased,
    so their standard error is that of the sum. Exact if the rank of H is at most ``num_matvecs // 3``.

    Invariances: those of the trace, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: ``num_matvecs`` Hessian-vector products. Memory: a third as many vectors.
    Source: Meyer, Musco, Musco and Woodruff (2021), algorithm 1.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    num_matvecs
        Number of Hessian-vector products, at least 6.
    seed
        Seed of the random signs.

    Returns
    -------
    Estimate
        The trace, with a standard error.

    Raises
    ------
    ValueError
        If ``num_matvecs`` is less than 6, or the vectors do not fit into the memory limit.

    Examples
    --------
    A sketch of two products has the whole range of this Hessian:

    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]])
    >>> round(hutch_plus_plus_trace(oracle, num_matvecs=12).value, 6)
    5.0
    """
    require_matvecs("hutch_plus_plus_trace", num_matvecs, 6)
    sketched = num_matvecs // 3
    with reserve(oracle, sketched, f"hutch_plus_plus_trace(num_matvecs={num_matvecs})"):
        basis = OrthonormalBasis(oracle)

        def sign(index: int) -> ParameterVector:
            return random.signs(oracle, seed, index)

        def remainder(number: int) -> ParameterVector:
            return basis.split(sign(sketched + number))[1]

        for _, product in cached_products(oracle, sign, sketched, "sketching the Hessian", seed):
            basis.extend(product)
        inside = fsum(_quadratic_forms(oracle, basis.vectors.__getitem__, len(basis), "inside", sketched, seed))
        count = num_matvecs - sketched - len(basis)
        outside = _quadratic_forms(oracle, remainder, count, "outside", sketched, seed)
    return mean_estimate("hutch_plus_plus_trace", inside + outside, f"Hutch++, {num_matvecs} products")


@renamed(pilot="pilot_probes", most="num_matvecs")
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
    ValueError
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
        raise ValueError(msg)
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


def trace_samples(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, Samples]:
    r"""Return draws of :math:`u_g \cdot (H u)_g` for each named group, with ``u`` random signs on the named groups.

    Unbiased for the trace of each diagonal block; the sum over the groups is :math:`u^T H u`.
    Cost: ``probes`` Hessian-vector products, in blocks within the memory limit.
    """
    ordered = sorted(names)

    def contributions(direction: ParameterVector, product: ParameterVector) -> list[float]:
        return [float(oracle.xp.sum(direction[name] * product[name])) for name in ordered]

    def direction(index: int) -> ParameterVector:
        return random.signs(oracle, seed, index).only(names)

    rows = numbers_of_products(oracle, direction, probes, "probing traces of groups", contributions, seed, *ordered)
    return dict(zip(ordered, rows.T, strict=True))


def signed_forms(oracle: CurvatureOracle, indices: range, seed: int) -> Samples:
    r"""Return draws of :math:`u^T H u`, with the random signs of these indices."""
    return _quadratic_forms(
        oracle, lambda number: random.signs(oracle, seed, indices[number]), len(indices), "signs", indices.start, seed
    )


def _quadratic_forms(
    oracle: CurvatureOracle, vector: Callable[[int], ParameterVector], count: int, *settings: object
) -> Samples:
    r"""Return the numbers :math:`v^T H v`; the settings are all that the vectors depend on."""
    return numbers_of_products(
        oracle, vector, count, "probing the trace", lambda v, product: [v.dot(product)], *settings
    ).ravel()


def mean_estimate(name: str, draws: Samples, method: str) -> Estimate:
    """Return the mean of independent draws, with its standard error."""
    error = float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
    return Estimate(name, float(draws.mean()), method, standard_error=error, degrees_of_freedom=len(draws) - 1)


def require_matvecs(name: str, num_matvecs: int, least: int) -> None:
    """Raise ``ValueError`` unless there are enough products for a value and its error."""
    if num_matvecs < least:
        msg = f"num_matvecs={num_matvecs}, but {name} and its standard error need at least {least} Hessian-vector products"
        raise ValueError(msg)
