r"""The Gauss-Newton matrix :math:`G = E_n[J_n^T \Lambda_n J_n]`: its product, its exact diagonal, and the sampled one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    GaussNewtonOracle,
    HostArrays,
    ResidualProductOracle,
    SampledGaussNewtonOracle,
    capability,
    machine_epsilon,
)
from invariant_sharpness.testing.differences import compared_entries, standard_errors_off, tolerance_of_rounding
from invariant_sharpness.testing.points import Entry, chosen_entries, nearby_point, scaled_signs, unit_vector
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_DRAWS = 64
_STANDARD_ERRORS = 8.0
"""A mean of 64 draws with heavy tails is that far off once in a very long while."""

Product = Callable[[ParameterVector, ParameterVector], ParameterVector]


def check_gauss_newton_diagonal(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that on groups that pass the affine test, the diagonal is that of the Hessian's columns, and zero elsewhere.

    The largest and a random entry of up to six groups. Cost: the diagonal, the affine test and twelve products.
    """
    able = _with_diagonal(oracle)
    exact = exact_groups(able, curvature_defects(able, seed))
    if not exact:
        msg = "no group passes the affine test, so there is nothing that the diagonal could be compared with"
        raise CheckSkippedError(msg)
    point, tolerance = oracle.parameters, tolerance_of_rounding(machine_epsilon(oracle))
    diagonal = oracle.to_numpy(able.gauss_newton_diagonal(point, exact))
    check_restriction("gauss_newton_diagonal", diagonal, exact)
    worst, known = 0.0, {name: diagonal[name] for name in exact}
    column = _diagonal_entry(able, able.hessian_vector_product, point)
    for (name, index), found, second, error in compared_entries(able, known, column, seed):
        worst = max(worst, error)
        if error > tolerance:
            msg = (
                f"gauss_newton_diagonal is {found:.6g} in {name!r} at {index}, but the Hessian there is {second:.6g}, although "
                f"output_curvature says that the outputs are affine in {name!r}, where the two are the same. One of the two "
                f"methods is wrong: square each example's backward pass before summing, and sum positions before squaring"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return {"relative_error": worst, "certified_groups": len(exact)}


def check_gauss_newton_product(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that ``v . G u = u . G v``, that entries of the diagonal are those of the product, in every group, and that products with the residual part are ``H v - G v``.

    The largest and a random entry of up to six groups. Cost: up to seventeen products, and the diagonal where it is known.
    """
    able = capability(oracle, GaussNewtonOracle)
    if able is None:
        msg = "the oracle does not multiply with the Gauss-Newton matrix"
        raise CheckSkippedError(msg)
    point = nearby_point(oracle, seed)
    figures = {"asymmetry": _asymmetry(able, point, seed), **_residual_error(able, point, seed)}
    diagonal = _whole_diagonal(able, point)
    return figures if diagonal is None else figures | {"relative_error": _entry_error(able, point, diagonal, seed)}


def check_sampled_outputs(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that no draw is negative, and that their mean is the diagonal of the product, within eight standard errors.

    The largest and a random entry of up to six groups. Cost: 64 draws and twelve products.
    """
    able = _sampling(oracle)
    names, point = frozenset(group.name for group in oracle.groups), nearby_point(oracle, seed)
    draws = [
        oracle.to_numpy(able.sampled_gauss_newton_diagonal(point, names, range(k, k + 1), seed)) for k in range(_DRAWS)
    ]
    for name in sorted(names):
        least = min(float(np.min(draw[name], initial=0.0)) for draw in draws)
        if least < 0:
            msg = f"a draw of sampled_gauss_newton_diagonal is {least:.3g} in {name!r}: square each example's backward pass"
            raise CheckFailedError(msg)
    first = frozenset({oracle.groups[0].name})
    restricted = able.sampled_gauss_newton_diagonal(oracle.parameters, first, range(1), seed)
    check_restriction("sampled_gauss_newton_diagonal", oracle.to_numpy(restricted), first)
    multiplying = capability(oracle, GaussNewtonOracle)
    return {"standard_errors_off": _distance(multiplying, point, draws, seed)} if multiplying is not None else {}


def _with_diagonal(oracle: CurvatureOracle) -> GaussNewtonDiagonalOracle:
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None:
        msg = "the oracle has no Gauss-Newton diagonal; the diagonal of the Hessian will be sampled"
        raise CheckSkippedError(msg)
    if able.outputs_per_example > MOST_OUTPUTS:
        msg = f"{able.outputs_per_example} outputs per example are too many for it; the diagonal will be sampled"
        raise CheckSkippedError(msg)
    return able


def _whole_diagonal(oracle: CurvatureOracle, point: ParameterVector) -> HostArrays | None:
    """Return the diagonal of all groups; None if the oracle does not know it."""
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None or able.outputs_per_example > MOST_OUTPUTS:
        return None
    return able.to_numpy(able.gauss_newton_diagonal(point, frozenset(group.name for group in able.groups)))


def _sampling(oracle: CurvatureOracle) -> SampledGaussNewtonOracle:
    able = capability(oracle, SampledGaussNewtonOracle)
    if able is None:
        msg = "the oracle does not sample outputs; networks with many of them will be probed"
        raise CheckSkippedError(msg)
    if not able.samples_outputs:
        msg = "the loss is not known to be convex in the outputs, so they cannot be sampled"
        raise CheckSkippedError(msg)
    return able


def check_restriction(method: str, found: HostArrays, asked: frozenset[str]) -> None:
    """Check that other groups than those that were asked for are zero."""
    leaked = [name for name, values in found.items() if name not in asked and np.any(values != 0)]
    if leaked:
        msg = f"{method} is not zero in {leaked[0]!r}, which was not among the names: return zeros there"
        raise CheckFailedError(msg)


def _diagonal_entry(oracle: CurvatureOracle, product: Product, point: ParameterVector) -> Callable[[Entry], float]:
    """Return a function that reads an entry of the diagonal from the product with a unit vector."""

    def entry_of(entry: Entry) -> float:
        name, index = entry
        return float(oracle.to_numpy(product(point, unit_vector(oracle, entry)))[name][index])

    return entry_of


def _asymmetry(able: GaussNewtonOracle, point: ParameterVector, seed: int) -> float:
    u, v = scaled_signs(able, seed, 0), scaled_signs(able, seed, 1)
    Gu, Gv = able.gauss_newton_vector_product(point, u), able.gauss_newton_vector_product(point, v)
    scale, difference = magnitudes(able), abs(v.dot(Gu) - u.dot(Gv))
    size = max((scale * Gu).norm(), (scale * Gv).norm())
    asymmetry = difference / size if size > 0 else 0.0
    if asymmetry > tolerance_of_rounding(machine_epsilon(able)):
        msg = (
            f"gauss_newton_vector_product is not symmetric: u.Gv and v.Gu differ by {asymmetry:.2g} of |Gu|. Carry Lambda J v "
            f"back by the transpose of the Jacobian that carried v forward"
        )
        raise CheckFailedError(msg, {"asymmetry": asymmetry})
    return asymmetry


def _residual_error(able: GaussNewtonOracle, point: ParameterVector, seed: int) -> Figures:
    """Return how far the products with the residual part, and with a block of it, are from the differences of the other two; nothing if the oracle has no such products."""
    multiplying = capability(able, ResidualProductOracle)
    if multiplying is None:
        return {}
    names = [group.name for group in able.groups]
    error = max(_block_error(multiplying, able, point, frozenset(block), seed) for block in (names, names[::2]))
    if error > tolerance_of_rounding(machine_epsilon(able)):
        msg = (
            f"residual_vector_products differ from H v - G v by {error:.2g} of these products. Hold the cotangents of the outputs "
            f"fixed, with the weights of the loss, divide by the sum of the weights, and leave out what is not named"
        )
        raise CheckFailedError(msg, {"residual_error": error})
    return {"residual_error": error}


def _block_error(
    multiplying: ResidualProductOracle,
    able: GaussNewtonOracle,
    point: ParameterVector,
    names: frozenset[str],
    seed: int,
) -> float:
    """Return the largest error of two products with a block, relative to those with H and G."""
    scale, vectors = magnitudes(able), [scaled_signs(able, seed, number) for number in range(2)]
    worst = 0.0
    for v, Rv in zip(vectors, multiplying.residual_vector_products(point, vectors, names), strict=True):
        Hv, Gv = (multiply(point, v.only(names)) for multiply in _matrices(able))
        distance = (scale * (Rv - (Hv - Gv).only(names))).norm()
        size = (scale * Hv).norm() + (scale * Gv).norm()
        worst = max(worst, distance / size if size > 0 else distance)
    return worst


def _matrices(able: GaussNewtonOracle) -> tuple[Product, Product]:
    return able.hessian_vector_product, able.gauss_newton_vector_product


def _entry_error(able: GaussNewtonOracle, point: ParameterVector, diagonal: HostArrays, seed: int) -> float:
    worst, tolerance = 0.0, tolerance_of_rounding(machine_epsilon(able))
    find = _diagonal_entry(able, able.gauss_newton_vector_product, point)
    for (name, index), known, found, error in compared_entries(able, diagonal, find, seed):
        worst = max(worst, error)
        if error > tolerance:
            msg = (
                f"gauss_newton_vector_product has {found:.6g} on its diagonal in {name!r} at {index}, but gauss_newton_diagonal "
                f"says {known:.6g}. Both are means over the same examples with the weights of the loss; square each example's "
                f"backward pass before summing, and sum positions before squaring"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return worst


def _distance(able: GaussNewtonOracle, point: ParameterVector, draws: Sequence[HostArrays], seed: int) -> float:
    """Return the largest distance of a mean from the diagonal, in standard errors."""
    sizes, eps = able.to_numpy(magnitudes(able)), machine_epsilon(able)
    means = {name: np.mean([draw[name] for draw in draws], axis=0) for name in draws[0]}
    relevant = {name: values * sizes[name] ** 2 for name, values in means.items()}
    whole = max(float(np.max(values, initial=0.0)) for values in relevant.values())
    find = _diagonal_entry(able, able.gauss_newton_vector_product, point)
    worst = 0.0
    for name, index in chosen_entries(relevant, seed):
        known, values = find((name, index)), np.array([draw[name][index] for draw in draws])
        # What sampling explains, and what rounding does.
        rounding = tolerance_of_rounding(eps) * abs(known) + 1e3 * eps * whole / sizes[name][index] ** 2
        distance = standard_errors_off(values, known, rounding)
        worst = max(worst, distance)
        if distance > _STANDARD_ERRORS:
            msg = (
                f"the mean of {_DRAWS} draws of sampled_gauss_newton_diagonal is {values.mean():.4g} in {name!r} at {index}, "
                f"{distance:.0f} standard errors from {known:.4g}, the diagonal of gauss_newton_vector_product. Draw signs for each "
                f"output of each example, and take the weights of the loss into account"
            )
            raise CheckFailedError(msg, {"standard_errors_off": distance})
    return worst
