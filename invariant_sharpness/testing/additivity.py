"""Additivity: what parts of the data give together is what the whole gives, and a batch of vectors what each gives alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockProductOracle,
    CurvatureOracle,
    HessianOperatorOracle,
    capability,
    machine_epsilon,
)
from invariant_sharpness.testing.differences import tolerance_of_rounding
from invariant_sharpness.testing.points import nearby_point, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_VECTORS = 3


def check_additivity(
    oracles: Sequence[CurvatureOracle], weights: Sequence[float], whole: CurvatureOracle, *, seed: int = 0
) -> Figures:
    r"""Check that the weighted mean of the parts' losses, gradients and products is that of the whole.

    .. math:: L(\theta) = \frac{\sum_b w_b L_b(\theta)}{\sum_b w_b}

    and so for the derivatives. A mean of means over batches of different sizes fails, and so does a loss
    that depends on which examples share a batch.

    Parameters
    ----------
    oracles
        Oracles of the same model, each on one part of the data.
    weights
        One weight for each part: the number of its examples, or the sum of their weights.
    whole
        The oracle on all data, in batches of whatever size.
    seed
        Seed of the point and the direction, an integer from 0; another one is another test.

    Returns
    -------
    mapping
        The relative errors of ``loss``, ``gradient`` and ``hessian_vector_product``. Cost: one of each per oracle.

    Raises
    ------
    CheckFailedError
        If one of them is not additive; says which.
    ArgumentError
        If there is not one weight per oracle.

    Examples
    --------
    The mean of two quadratic losses with curvatures 1 and 4, of which the second counts twice, has the curvature 3.

    >>> from invariant_sharpness.testing import check_additivity
    >>> from invariant_sharpness_numpy import quadratic
    >>> parts = [quadratic([[1.0]], [[2.0]]), quadratic([[4.0]], [[2.0]])]
    >>> figures = check_additivity(parts, [1, 2], quadratic([[3.0]], [[2.0]]))
    >>> max(figures.values()) < 1e-15
    True
    """
    if not oracles or len(oracles) != len(weights):
        msg = f"{len(oracles)} oracles and {len(weights)} weights: give one weight for each part of the data"
        raise ArgumentError(msg)
    shares = [weight / fsum(weights) for weight in weights]
    point, direction = nearby_point(whole, seed), scaled_signs(whole, seed, 0)
    scale = magnitudes(whole)
    # Weighted means of the parts.
    loss = whole.loss(point)
    mean_loss = fsum(share * oracle.loss(point) for share, oracle in zip(shares, oracles, strict=True))
    gradients = _mean([oracle.gradient(point) for oracle in oracles], shares)
    products = _mean([oracle.hessian_vector_product(point, direction) for oracle in oracles], shares)
    # Their distances from the whole.
    figures = {
        "loss": abs(mean_loss - loss) / abs(loss) if mean_loss != loss else 0.0,
        "gradient": _difference(scale * gradients, scale * whole.gradient(point)),
        "hessian_vector_product": _difference(scale * products, scale * whole.hessian_vector_product(point, direction)),
    }
    for name, error in figures.items():
        if error > tolerance_of_rounding(machine_epsilon(whole)):
            msg = (
                f"{name} of the whole differs by {error:.2g} from the weighted mean of its parts. Add unnormalized sums and "
                f"weights over the batches and divide once; an example's loss must not depend on its batch"
            )
            raise CheckFailedError(msg, figures)
    return figures


def check_block_products(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that ``hessian_vector_products`` gives what ``hessian_vector_product`` gives for each vector, in order, and so does a ``hessian_operator``.

    Cost: nine products.
    """
    able = capability(oracle, BlockProductOracle)
    if able is None:
        msg = "the oracle multiplies with one vector at a time; many products take longer"
        raise CheckSkippedError(msg)
    point = nearby_point(oracle, seed)
    vectors = [scaled_signs(oracle, seed, k) for k in range(_VECTORS)]
    together = able.hessian_vector_products(point, vectors)
    if len(together) != _VECTORS:
        msg = f"hessian_vector_products returned {len(together)} products for {_VECTORS} vectors: return one for each"
        raise CheckFailedError(msg)
    alone = [oracle.hessian_vector_product(point, vector) for vector in vectors]
    error = _error(oracle, together, alone)
    if error > tolerance_of_rounding(machine_epsilon(oracle)):
        msg = (
            f"hessian_vector_products differs by {error:.2g} from products taken one by one. Keep the vectors of a batch "
            f"apart and in order, and divide by the weights of the data once"
        )
        raise CheckFailedError(msg, {"relative_error": error})
    return {"relative_error": error, **_operator_error(oracle, point, vectors, alone)}


def _operator_error(
    oracle: CurvatureOracle, point: ParameterVector, vectors: list[ParameterVector], alone: list[ParameterVector]
) -> Figures:
    """Return how far the products of one linearization are from these; nothing if the oracle holds none."""
    able = capability(oracle, HessianOperatorOracle)
    if able is None:
        return {}
    multiply = able.hessian_operator(point)
    error = _error(oracle, [multiply([vector])[0] for vector in vectors], alone)
    if error > tolerance_of_rounding(machine_epsilon(oracle)):
        msg = (
            f"hessian_operator differs by {error:.2g} from products taken one by one. Linearize at the point that is given, over "
            f"all data, and keep the linearization from one call to the next"
        )
        raise CheckFailedError(msg, {"operator_error": error})
    return {"operator_error": error}


def _error(oracle: CurvatureOracle, found: list[ParameterVector], expected: list[ParameterVector]) -> float:
    """The largest difference, relative to the largest product, in units of the parameters."""
    scale = magnitudes(oracle)
    difference = max((scale * (a - b)).norm() for a, b in zip(found, expected, strict=True))
    return difference / max((scale * product).norm() for product in expected) if difference > 0 else 0.0


def _mean(vectors: list[ParameterVector], shares: list[float]) -> ParameterVector:
    total = shares[0] * vectors[0]
    for share, vector in zip(shares[1:], vectors[1:], strict=True):
        total = total + share * vector
    return total


def _difference(a: ParameterVector, b: ParameterVector) -> float:
    return (a - b).norm() / max(a.norm(), b.norm()) if (a - b).norm() > 0 else 0.0
