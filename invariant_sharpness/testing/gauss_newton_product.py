"""The Gauss-Newton product: symmetric, and with the diagonal that the oracle says it has."""

from __future__ import annotations

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.estimators.exact_diagonal import MOST_OUTPUTS
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HostArrays,
    require,
    supports,
)
from invariant_sharpness.testing.entries import chosen_entries, unit_vector
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding, relative_error


def check_gauss_newton_product(oracle: CurvatureOracle, seed: int) -> Figures:
    """``v . G u = u . G v``, and entries of the diagonal are those of the product, in every group.

    The largest and a random entry of up to six groups. Cost: fourteen products, and the diagonal where it is known.
    """
    if not supports(oracle, GaussNewtonOracle):
        msg = "the oracle does not multiply with the Gauss-Newton matrix"
        raise CheckSkippedError(msg)
    able = require(oracle, GaussNewtonOracle, metric="check_gauss_newton_product")
    point = nearby_point(oracle, seed)
    figures = {"asymmetry": _asymmetry(able, point, seed)}
    diagonal = _diagonal(able, point)
    return figures if diagonal is None else figures | {"relative_error": _entry_error(able, point, diagonal, seed)}


def _asymmetry(able: GaussNewtonOracle, point: ParameterVector, seed: int) -> float:
    u, v = scaled_signs(able, seed, 0), scaled_signs(able, seed, 1)
    Gu, Gv = able.gauss_newton_vector_product(point, u), able.gauss_newton_vector_product(point, v)
    scale, difference = magnitudes(able), abs(v.dot(Gu) - u.dot(Gv))
    asymmetry = difference / max((scale * Gu).norm(), (scale * Gv).norm()) if difference > 0 else 0.0
    if asymmetry > of_rounding(precision(able)):
        msg = (
            f"gauss_newton_vector_product is not symmetric: u.Gv and v.Gu differ by {asymmetry:.2g} of |Gu|. Carry Lambda J v "
            f"back by the transpose of the Jacobian that carried v forward"
        )
        raise CheckFailedError(msg, {"asymmetry": asymmetry})
    return asymmetry


def _diagonal(able: GaussNewtonOracle, point: ParameterVector) -> HostArrays | None:
    """The diagonal of all groups; None if the oracle does not know it."""
    if not supports(able, GaussNewtonDiagonalOracle):
        return None
    knowing = require(able, GaussNewtonDiagonalOracle, metric="check_gauss_newton_product")
    if knowing.outputs_per_example > MOST_OUTPUTS:
        return None
    return able.to_numpy(knowing.gauss_newton_diagonal(point, frozenset(group.name for group in able.groups)))


def _entry_error(able: GaussNewtonOracle, point: ParameterVector, diagonal: HostArrays, seed: int) -> float:
    sizes = able.to_numpy(magnitudes(able))
    relevant = {name: values * sizes[name] ** 2 for name, values in diagonal.items()}
    whole = max(float(abs(values).max(initial=0.0)) for values in relevant.values())
    worst = 0.0
    for name, index in chosen_entries(relevant, relevant, seed):
        product = able.gauss_newton_vector_product(point, unit_vector(able, (name, index)))
        entry, known = float(able.to_numpy(product)[name][index]), float(diagonal[name][index])
        local = whole / sizes[name][index] ** 2
        error = relative_error(abs(entry - known), max(abs(entry), abs(known)), local, precision(able))
        worst = max(worst, error)
        if error > of_rounding(precision(able)):
            msg = (
                f"gauss_newton_vector_product has {entry:.6g} on its diagonal in {name!r} at {index}, but gauss_newton_diagonal "
                f"says {known:.6g}. Both are means over the same examples with the weights of the loss; square each example's "
                f"backward pass before summing, and sum positions before squaring"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return worst
