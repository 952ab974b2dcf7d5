"""Gradient and Hessian-vector product: derivatives of what they should be, and the product linear and symmetric."""

from __future__ import annotations

from itertools import combinations_with_replacement

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.testing.differences import (
    Agreement,
    agreement_by_group,
    agreement_of_numbers,
    persists,
    relative_error,
    tolerance_of_differences,
    tolerance_of_rounding,
)
from invariant_sharpness.testing.points import group_norms, nearby_point, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_PAIRS = 3
_DIRECTIONS = 2


def check_gradient(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""Check that :math:`g \cdot u` is the derivative of the loss along u: by steepest ascent, and in two random directions.

    Cost: one gradient and 51 losses; as much again and 17 more per group if it fails.
    """
    point = nearby_point(oracle, seed)
    gradient = oracle.gradient(point)
    directions = [_steepest(oracle, gradient), scaled_signs(oracle, seed, 0), scaled_signs(oracle, seed, 1)]
    judged = [a for u in directions if (a := _loss_along(oracle, point, gradient, u)).judged]
    if not judged:
        msg = "the loss changes by no more than its rounding near the parameters, so its slope cannot be seen"
        raise CheckSkippedError(msg)
    worst = max(judged, key=lambda a: a.error - 3 * a.uncertainty)
    figures = {"relative_error": worst.error, "uncertainty": worst.uncertainty}
    tolerance = tolerance_of_differences(machine_epsilon(oracle))
    if worst.fits(tolerance) or not persists(lambda k: _loss_elsewhere(oracle, seed + 1 + k), tolerance):
        return figures
    msg = (
        f"gradient(p) is not the derivative of loss(p): along a line the two differ by {worst.error:.2g} of the slope, "
        f"where differences are certain to {worst.uncertainty:.1g}{_worst_group_of_loss(oracle, point, gradient, seed)}. Check that both "
        f"average over the same examples with the same weights and use the parameters that they are given, and that nothing "
        f"between is detached: no_grad, stop_gradient, or an embedding's padding row that the loss depends on"
    )
    raise CheckFailedError(msg, figures)


def check_linearity(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that ``H (2 u - 3 v) = 2 H u - 3 H v``, group by group. Cost: three products."""
    point, eps = nearby_point(oracle, seed), machine_epsilon(oracle)
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
    relative = {name: relative_error(e, sizes[0][name] + sizes[1][name], whole, eps) for name, e in errors.items()}
    name = max(relative, key=lambda n: relative[n])
    figures = {"relative_error": relative[name]}
    if relative[name] <= tolerance_of_rounding(eps):
        return figures
    msg = (
        f"hessian_vector_product(p, v) is not linear in v: H(2u - 3v) and 2Hu - 3Hv differ by {relative[name]:.2g} "
        f"in {name!r}. Differences of gradients are not linear; neither is a product that normalizes v"
    )
    raise CheckFailedError(msg, figures)


def check_symmetry(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that ``v . H u = u . H v`` for random directions. Cost: six products; two per group more if it fails."""
    point = nearby_point(oracle, seed)
    scale = magnitudes(oracle)
    worst = 0.0
    for pair in range(_PAIRS):
        u, v = (scaled_signs(oracle, seed, 2 * pair + k) for k in (0, 1))
        Hu, Hv = oracle.hessian_vector_product(point, u), oracle.hessian_vector_product(point, v)
        difference = abs(v.dot(Hu) - u.dot(Hv))
        size = max((scale * Hu).norm(), (scale * Hv).norm())
        asymmetry = difference / size if size > 0 else 0.0
        worst = max(worst, asymmetry)
    figures = {"asymmetry": worst}
    if worst <= tolerance_of_rounding(machine_epsilon(oracle)):
        return figures
    msg = (
        f"hessian_vector_product is not symmetric: u.Hv and v.Hu differ by {worst:.2g} of |Hu|, most of all in the block "
        f"{_least_symmetric_block(oracle, point, seed)}. The second derivative of an operation there is wrong or is cut off: "
        f"write that operation in elementary ones, or take another mode of differentiation"
    )
    raise CheckFailedError(msg, figures)


def check_second_derivative(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that the product is the derivative of the gradient along v, group by group.

    A symmetric product can be wrong too. Cost: two products and 34 gradients; as much twice again, and one and 17 more per group if it fails.
    """
    point = nearby_point(oracle, seed)
    directions = [scaled_signs(oracle, seed, k) for k in range(_DIRECTIONS)]
    found = [pair for u in directions for pair in _gradient_along(oracle, point, u).items()]
    judged = [(name, agreement) for name, agreement in found if agreement.judged]
    if not judged:
        msg = "the gradient changes by no more than its rounding near the parameters, so its derivative cannot be seen"
        raise CheckSkippedError(msg)
    name, worst = max(judged, key=lambda pair: pair[1].error - 3 * pair[1].uncertainty)
    figures = {"relative_error": worst.error, "uncertainty": worst.uncertainty}
    if unseen := {group.name for group in oracle.groups} - {name for name, _ in judged}:
        figures["groups_not_judged"] = len(unseen)
    tolerance = tolerance_of_differences(machine_epsilon(oracle))
    if worst.fits(tolerance) or not persists(lambda k: _gradient_elsewhere(oracle, name, seed + 1 + k), tolerance):
        return figures
    msg = (
        f"hessian_vector_product is not the derivative of the gradient: they differ by {worst.error:.2g} in {name!r}, where "
        f"differences of the gradient are certain to {worst.uncertainty:.1g}{_worst_group_of_gradient(oracle, point, seed)}. The second "
        f"derivative of an operation there is wrong or is cut off: write that operation in elementary ones, or take another mode of "
        f"differentiation"
    )
    raise CheckFailedError(msg, figures)


def _loss_along(
    oracle: CurvatureOracle, point: ParameterVector, gradient: ParameterVector, u: ParameterVector
) -> Agreement:
    eps = machine_epsilon(oracle)
    return agreement_of_numbers(lambda step: oracle.loss(point + step * u), gradient.dot(u), eps)


def _loss_elsewhere(oracle: CurvatureOracle, seed: int) -> Agreement:
    """Compare loss and gradient at another point in another direction."""
    point = nearby_point(oracle, seed)
    return _loss_along(oracle, point, oracle.gradient(point), scaled_signs(oracle, seed, _DIRECTIONS))


def _gradient_elsewhere(oracle: CurvatureOracle, name: str, seed: int) -> Agreement:
    """Compare gradient and product in one group, at another point in another direction."""
    return _gradient_along(oracle, nearby_point(oracle, seed), scaled_signs(oracle, seed, _DIRECTIONS))[name]


def _gradient_along(oracle: CurvatureOracle, point: ParameterVector, u: ParameterVector) -> dict[str, Agreement]:
    scale = magnitudes(oracle)

    def gradient(step: float) -> ParameterVector:
        return scale * oracle.gradient(point + step * u)

    return agreement_by_group(gradient, scale * oracle.hessian_vector_product(point, u), machine_epsilon(oracle))


def _steepest(oracle: CurvatureOracle, gradient: ParameterVector) -> ParameterVector:
    """Return steepest ascent in relative changes of the parameters, of which the largest is one."""
    scale = magnitudes(oracle)
    ascent = scale * gradient
    largest = max(float(oracle.xp.max(oracle.xp.abs(array))) for array in ascent.arrays.values())
    return scale * ascent / (largest if largest > 0 else 1.0)


def _worst_group_of_loss(oracle: CurvatureOracle, point: ParameterVector, gradient: ParameterVector, seed: int) -> str:
    """Name the group along which gradient and loss differ most, in words."""
    u, tolerance = scaled_signs(oracle, seed, 0), tolerance_of_differences(machine_epsilon(oracle))
    found = {g.name: _loss_along(oracle, point, gradient, u.only([g.name])) for g in oracle.groups}
    wrong = {name: a.error for name, a in found.items() if not a.fits(tolerance)}
    return f", and most of all along {max(wrong, key=lambda n: wrong[n])!r}" if wrong else ""


def _worst_group_of_gradient(oracle: CurvatureOracle, point: ParameterVector, seed: int) -> str:
    """Name the group along which product and gradient differ most, in words."""
    u, tolerance = scaled_signs(oracle, seed, 0), tolerance_of_differences(machine_epsilon(oracle))
    wrong = {}
    for group in oracle.groups:
        found = _gradient_along(oracle, point, u.only([group.name])).values()
        wrong[group.name] = max((a.error for a in found if not a.fits(tolerance)), default=0.0)
    name = max(wrong, key=lambda n: wrong[n])
    return f", and most of all along {name!r}" if wrong[name] > 0 else ""


def _least_symmetric_block(oracle: CurvatureOracle, point: ParameterVector, seed: int) -> str:
    """Name the two groups whose diagonal or off-diagonal block differs most from its transpose."""
    names = [group.name for group in oracle.groups]
    u, v = scaled_signs(oracle, seed, 0), scaled_signs(oracle, seed, 1)
    right = {name: oracle.hessian_vector_product(point, u.only([name])) for name in names}
    left = {name: oracle.hessian_vector_product(point, v.only([name])) for name in names}

    def asymmetry(pair: tuple[str, str]) -> float:
        a, b = pair
        return abs(v.only([b]).dot(right[a]) - u.only([a]).dot(left[b]))

    a, b = max(combinations_with_replacement(names, 2), key=asymmetry)
    return f"({a!r}, {b!r})"
