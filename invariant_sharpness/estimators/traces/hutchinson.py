"""The trace of the Hessian by Hutchinson's method, plain and with a low-rank part taken out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import fsum

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.kept_products import kept_products, numbers_of_products
from invariant_sharpness.estimators.subspaces.basis import OrthonormalBasis
from invariant_sharpness.memory import room_for_vectors
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

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
    with room_for_vectors(oracle, sketched, f"hutch_plus_plus_trace(products={products})"):
        basis = OrthonormalBasis(oracle)
        signs = (random.signs(oracle, seed, index) for index in range(sketched))
        for _, product in kept_products(oracle, signs, sketched, "sketching the Hessian", seed):
            basis.extend(product)
        inside = fsum(quadratic_forms(oracle, basis.vectors, len(basis), "inside of a sketch", sketched, seed))
        count = products - sketched - len(basis)
        remainders = _remainders(oracle, basis, range(sketched, sketched + count), seed)
        outside = quadratic_forms(oracle, remainders, count, "outside of a sketch", sketched, seed)
    return mean_estimate("hutch_plus_plus_trace", inside + outside, f"Hutch++, {products} products")


def signed_forms(oracle: CurvatureOracle, indices: range, seed: int) -> Samples:
    r"""Draws of :math:`u^T H u`, with the random signs of these indices."""
    signs = (random.signs(oracle, seed, index) for index in indices)
    return quadratic_forms(oracle, signs, len(indices), "signs", indices.start, seed)


def quadratic_forms(
    oracle: CurvatureOracle, vectors: Iterable[ParameterVector], count: int, *settings: object
) -> Samples:
    r"""The numbers :math:`v^T H v`; the settings are all that the vectors depend on."""
    return numbers_of_products(
        oracle, vectors, count, "probing the trace", lambda vector, product: [vector.dot(product)], *settings
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


def _remainders(
    oracle: CurvatureOracle, basis: OrthonormalBasis, indices: range, seed: int
) -> Iterator[ParameterVector]:
    return (basis.split(random.signs(oracle, seed, index))[1] for index in indices)
