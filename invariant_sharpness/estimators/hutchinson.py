"""The trace of the Hessian by Hutchinson's method, plain and with a low-rank part taken out.

As many draws as a given error needs, without the bias of stopping when the running mean looks still.

Hutchinson's estimators of the traces of diagonal blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, fsum

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.bases import OrthonormalBasis
from invariant_sharpness.estimators.products import cached_products, numbers_of_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.memory import reserve

Samples = npt.NDArray[np.float64]


def hutchinson_trace(oracle: CurvatureOracle, *, products: int = 64, seed: int = 0) -> Estimate:
    r"""Mean of :math:`u^T H u` over random signs u.

    Unbiased, with variance :math:`2 \sum_{i \ne j} H_{ij}^2` of one draw. The draws are independent: the standard error is
    that of their mean.

    Cost: ``products`` Hessian-vector products. Memory: no vector is kept.
    Source: Girard (1989), Hutchinson (1989).

    Raises
    ------
    ValueError
        If ``products`` is less than 2.
    """
    require_products("hutchinson_trace", products, 2)
    draws = signed_forms(oracle, range(products), seed)
    return mean_estimate("hutchinson_trace", draws, f"Hutchinson, {products} products")


def hutch_plus_plus_trace(oracle: CurvatureOracle, *, products: int = 64, seed: int = 0) -> Estimate:
    r"""Hutch++: the trace on the range of a sketch exactly, and the rest by Hutchinson's method.

    .. math:: \operatorname{tr}(Q^T H Q) + \frac{1}{k} \sum_{i=1}^{k} (P g_i)^T H (P g_i), \quad P = I - Q Q^T,
        \quad Q = \operatorname{orth}(H S)

    A third of the products makes the sketch, as many multiply its basis, and the rest are draws. S and all :math:`g_i`
    are random signs. Given Q the first term is known exactly and the draws of the second are independent and unbiased,
    so their standard error is that of the sum. Exact if the rank of H is at most ``products // 3``.

    Cost: ``products`` Hessian-vector products. Memory: a third as many vectors.
    Source: Meyer, Musco, Musco and Woodruff (2021), algorithm 1.

    Raises
    ------
    ValueError
        If ``products`` is less than 6, or the vectors do not fit into the memory limit.
    """
    require_products("hutch_plus_plus_trace", products, 6)
    sketched = products // 3
    with reserve(oracle, sketched, f"hutch_plus_plus_trace(products={products})"):
        basis = OrthonormalBasis(oracle)

        def sign(index: int) -> ParameterVector:
            return random.signs(oracle, seed, index)

        def remainder(number: int) -> ParameterVector:
            return basis.split(sign(sketched + number))[1]

        for _, product in cached_products(oracle, sign, sketched, "sketching the Hessian", seed):
            basis.extend(product)
        inside = fsum(_quadratic_forms(oracle, basis.vectors.__getitem__, len(basis), "inside", sketched, seed))
        count = products - sketched - len(basis)
        outside = _quadratic_forms(oracle, remainder, count, "outside", sketched, seed)
    return mean_estimate("hutch_plus_plus_trace", inside + outside, f"Hutch++, {products} products")


def signed_forms(oracle: CurvatureOracle, indices: range, seed: int) -> Samples:
    r"""Draws of :math:`u^T H u`, with the random signs of these indices."""
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
    """The mean of independent draws, with its standard error."""
    error = float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
    return Estimate(name, float(draws.mean()), method, standard_error=error, degrees_of_freedom=len(draws) - 1)


def require_products(name: str, products: int, least: int) -> None:
    """Raise ``ValueError`` unless there are enough products for a value and its error."""
    if products < least:
        msg = f"products={products}, but {name} and its standard error need at least {least} Hessian-vector products"
        raise ValueError(msg)


_CONFIDENCE = 0.95
"""Chance that the variance is not larger than the one that the pilot draws are taken to say."""


def hutchinson_trace_within(
    oracle: CurvatureOracle, *, relative_error: float = 0.01, pilot: int = 16, most: int = 10_000, seed: int = 0
) -> Estimate:
    """Hutchinson's trace with a standard error of at most this fraction of its value.

    As :func:`~invariant_sharpness.estimators.hutchinson.hutchinson_trace`, with the number of products from
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


def trace_samples(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, Samples]:
    r"""Draws of :math:`u_g \cdot (H u)_g` for each named group, with ``u`` random signs on the named groups.

    Unbiased for the trace of each diagonal block; the sum over the groups is :math:`u^T H u`.
    Cost: ``probes`` Hessian-vector products, in blocks within the memory limit.
    """
    ordered = sorted(names)

    def shares(direction: ParameterVector, product: ParameterVector) -> list[float]:
        return [float(oracle.xp.sum(direction[name] * product[name])) for name in ordered]

    def direction(index: int) -> ParameterVector:
        return random.signs(oracle, seed, index).only(names)

    rows = numbers_of_products(oracle, direction, probes, "probing traces of groups", shares, seed, *ordered)
    return dict(zip(ordered, rows.T, strict=True))
