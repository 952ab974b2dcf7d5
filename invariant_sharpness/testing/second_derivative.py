"""The Hessian-vector product: linear, symmetric, and the derivative of the gradient."""

from __future__ import annotations

from itertools import combinations_with_replacement

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.differences import Agreement, agreement_by_group
from invariant_sharpness.testing.points import group_norms, nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_differences, of_rounding, relative_error

_PAIRS = 3
_DIRECTIONS = 2


def check_linearity(oracle: CurvatureOracle, seed: int) -> Figures:
    """``H (2 u - 3 v) = 2 H u - 3 H v``, group by group. Cost: three products."""
    point = nearby_point(oracle, seed)
    u, v = scaled_signs(oracle, seed, 0), scaled_signs(oracle, seed, 1)
    joint = oracle.hessian_vector_product(point, 2.0 * u - 3.0 * v)
    parts = [
        2.0 * oracle.hessian_vector_product(point, u),
        -3.0 * oracle.hessian_vector_product(point, v),
    ]
    scale = magnitudes(oracle)
    errors = group_norms(oracle, scale * (joint - parts[0] - parts[1]))
    sizes = [group_norms(oracle, scale * part) for part in parts]
    whole = sum((scale * part).norm() for part in parts)
    relative = {n: relative_error(e, sizes[0][n] + sizes[1][n], whole, precision(oracle)) for n, e in errors.items()}
    name = max(relative, key=lambda n: relative[n])
    figures = {"relative_error": relative[name]}
    if relative[name] <= of_rounding(precision(oracle)):
        return figures
    msg = (
        f"hessian_vector_product(p, v) is not linear in v: H(2u - 3v) and 2Hu - 3Hv differ by {relative[name]:.2g} "
        f"in {name!r}. Differences of gradients are not linear; neither is a product that normalizes v"
    )
    raise CheckFailedError(msg, figures)


def check_symmetry(oracle: CurvatureOracle, seed: int) -> Figures:
    """``v . H u = u . H v`` for random directions. Cost: six products; two per group more if it fails."""
    point = nearby_point(oracle, seed)
    scale = magnitudes(oracle)
    worst = 0.0
    for pair in range(_PAIRS):
        u, v = (scaled_signs(oracle, seed, 2 * pair + k) for k in (0, 1))
        hu, hv = oracle.hessian_vector_product(point, u), oracle.hessian_vector_product(point, v)
        worst = max(worst, _ratio(abs(v.dot(hu) - u.dot(hv)), max((scale * hu).norm(), (scale * hv).norm())))
    figures = {"asymmetry": worst}
    if worst <= of_rounding(precision(oracle)):
        return figures
    msg = (
        f"hessian_vector_product is not symmetric: u.Hv and v.Hu differ by {worst:.2g} of |Hu|, most of all in the block "
        f"{_least_symmetric_block(oracle, point, seed)}. The second derivative of an operation there is wrong or is cut off: "
        f"write that operation in elementary ones, or take another mode of differentiation"
    )
    raise CheckFailedError(msg, figures)


def check_second_derivative(oracle: CurvatureOracle, seed: int) -> Figures:
    """The product is the derivative of the gradient along v, group by group.

    A symmetric product can be wrong too. Cost: two products and 30 gradients; one and 15 more per group if it fails.
    """
    point = nearby_point(oracle, seed)
    found = [pair for k in range(_DIRECTIONS) for pair in _along(oracle, point, scaled_signs(oracle, seed, k)).items()]
    judged = [(name, agreement) for name, agreement in found if agreement.judged]
    if not judged:
        msg = "the gradient changes by no more than its rounding near the parameters, so its derivative cannot be seen"
        raise CheckSkippedError(msg)
    name, worst = max(judged, key=lambda pair: pair[1].error - 3 * pair[1].uncertainty)
    figures = {"relative_error": worst.error, "uncertainty": worst.uncertainty}
    if worst.fits(of_differences(precision(oracle))):
        return figures
    msg = (
        f"hessian_vector_product is not the derivative of the gradient: they differ by {worst.error:.2g} in {name!r}, where "
        f"differences of the gradient are certain to {worst.uncertainty:.1g}{_blamed(oracle, point, seed)}. The second derivative of "
        f"an operation there is wrong or is cut off: write that operation in elementary ones, or take another mode of "
        f"differentiation"
    )
    raise CheckFailedError(msg, figures)


def _along(oracle: CurvatureOracle, point: ParameterVector, u: ParameterVector) -> dict[str, Agreement]:
    scale = magnitudes(oracle)

    def gradient(step: float) -> ParameterVector:
        return scale * oracle.gradient(point + step * u)

    return agreement_by_group(gradient, scale * oracle.hessian_vector_product(point, u), precision(oracle))


def _blamed(oracle: CurvatureOracle, point: ParameterVector, seed: int) -> str:
    """The group along which the two differ most, in words."""
    u, limit = scaled_signs(oracle, seed, 0), of_differences(precision(oracle))
    wrong = {}
    for group in oracle.groups:
        found = _along(oracle, point, u.only([group.name])).values()
        wrong[group.name] = max((a.error for a in found if not a.fits(limit)), default=0.0)
    name = max(wrong, key=lambda n: wrong[n])
    return f", and most of all along {name!r}" if wrong[name] > 0 else ""


def _least_symmetric_block(oracle: CurvatureOracle, point: ParameterVector, seed: int) -> str:
    """Names of the two groups whose block differs most from its transpose."""
    names = [group.name for group in oracle.groups]
    u, v = scaled_signs(oracle, seed, 0), scaled_signs(oracle, seed, 1)
    right = {name: oracle.hessian_vector_product(point, u.only([name])) for name in names}
    left = {name: oracle.hessian_vector_product(point, v.only([name])) for name in names}

    def asymmetry(pair: tuple[str, str]) -> float:
        a, b = pair
        return abs(v.only([b]).dot(right[a]) - u.only([a]).dot(left[b]))

    a, b = max(combinations_with_replacement(names, 2), key=asymmetry)
    return f"({a!r}, {b!r})"


def _ratio(part: float, whole: float) -> float:
    return part / whole if part > 0 else 0.0
