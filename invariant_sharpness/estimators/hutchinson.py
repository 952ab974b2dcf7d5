"""The trace of the Hessian by Hutchinson's method: plain, with a low-rank part taken out, and group by group."""

from __future__ import annotations

from collections.abc import Callable
from math import fsum

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.bases import OrthonormalBasis
from invariant_sharpness.estimators.products import cached_products, numbers_of_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.memory import reserve

Samples = npt.NDArray[np.float64]


@renamed(products="num_matvecs")
@checked_numbers
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
    ArgumentError
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
@checked_numbers
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
    ArgumentError
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


def trace_samples(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, Samples]:
    r"""Return draws of :math:`u_g \cdot (H u)_g` for each named group, with ``u`` random signs on the named groups.

    Unbiased for the trace of each diagonal block; the sum over the groups is :math:`u^T H u`.
    Cost: ``probes`` Hessian-vector products, in blocks within the memory limit.
    """
    ordered = sorted(names)

    def contributions(direction: ParameterVector, product: ParameterVector) -> list[float]:
        forms = direction.dot_by_group(product)
        return [forms[name] for name in ordered]

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
    """Raise ``ArgumentError`` unless there are enough products for a value and its error."""
    if num_matvecs < least:
        msg = f"num_matvecs={num_matvecs}, but {name} and its standard error need at least {least} Hessian-vector products"
        raise ArgumentError(msg)
