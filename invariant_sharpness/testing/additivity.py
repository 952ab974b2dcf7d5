"""Sums over the data: what the parts give together is what the whole gives."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding


def check_additivity(
    oracles: Sequence[CurvatureOracle], weights: Sequence[float], whole: CurvatureOracle, *, seed: int = 0
) -> Figures:
    r"""Check that the weighted mean of the parts' losses, gradients and products is that of the whole.

    :math:`L = \sum_b w_b L_b / \sum_b w_b`. A mean of means over batches of different sizes fails, and so does a loss
    that depends on which examples share a batch.

    Parameters
    ----------
    oracles
        Of the same model, each on one part of the data.
    weights
        Of the parts: the number of examples, or the sum of the weights of their examples.
    whole
        On all data, in batches of whatever size.

    Returns
    -------
    mapping
        The relative errors of loss, gradient and product. Cost: one of each per oracle.

    Raises
    ------
    CheckFailedError
        If one of them is not additive; says which.
    ValueError
        If there is not one weight per oracle.
    """
    if not oracles or len(oracles) != len(weights):
        msg = f"{len(oracles)} oracles and {len(weights)} weights: give one weight for each part of the data"
        raise ValueError(msg)
    shares = [weight / fsum(weights) for weight in weights]
    point, direction = nearby_point(whole, seed), scaled_signs(whole, seed, 0)
    scale = magnitudes(whole)
    loss = whole.loss(point)
    parts = fsum(share * oracle.loss(point) for share, oracle in zip(shares, oracles, strict=True))
    gradients = _mean([oracle.gradient(point) for oracle in oracles], shares)
    products = _mean([oracle.hessian_vector_product(point, direction) for oracle in oracles], shares)
    figures = {
        "loss": abs(parts - loss) / abs(loss) if parts != loss else 0.0,
        "gradient": _difference(scale * gradients, scale * whole.gradient(point)),
        "hessian_vector_product": _difference(scale * products, scale * whole.hessian_vector_product(point, direction)),
    }
    for name, error in figures.items():
        if error > of_rounding(precision(whole)):
            msg = (
                f"{name} of the whole differs by {error:.2g} from the weighted mean of its parts. Add unnormalized sums and "
                f"weights over the batches and divide once; an example's loss must not depend on its batch"
            )
            raise CheckFailedError(msg, figures)
    return figures


def _mean(vectors: list[ParameterVector], shares: list[float]) -> ParameterVector:
    total = shares[0] * vectors[0]
    for share, vector in zip(shares[1:], vectors[1:], strict=True):
        total = total + share * vector
    return total


def _difference(a: ParameterVector, b: ParameterVector) -> float:
    return (a - b).norm() / max(a.norm(), b.norm()) if (a - b).norm() > 0 else 0.0
