r"""The diagonal of the residual part :math:`R = H - G`: from unit vectors and draws at layers, and from draws at the operations above them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonOracle,
    HostArrays,
    NodeCurvatureOracle,
    ResidualDiagonalOracle,
    capability,
    machine_epsilon,
)
from invariant_sharpness.testing.differences import standard_errors_off, tolerance_of_rounding
from invariant_sharpness.testing.gauss_newton import check_restriction
from invariant_sharpness.testing.points import Entry, chosen_entries, nearby_point, unit_vector
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_MOST_OUTPUTS = 64
"""Unit vectors are as many passes as a layer has outputs for an example: of layers with more, draws are looked at alone."""

_PARTS, _DRAWS_OF_PART, _STANDARD_ERRORS = 16, 2, 8.0
"""A mean of that many draws, with heavy tails, is that far off once in a very long while."""


class _Expected(NamedTuple):
    """An entry of the diagonal of H - G, and how far rounding may take it."""

    entry: Entry
    value: float
    rounding: float


def check_residual_diagonal(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that on groups of layers, unit vectors give the diagonal of H - G, and draws do on average; other groups get zero.

    The largest and a random entry of up to six groups. Cost: 32 draws, up to as many unit vectors, and twelve products with each matrix.
    """
    able, point = _with_layers(oracle), nearby_point(oracle, seed)
    units = able.layer_units(point)
    if not units:
        msg = "no group belongs to a layer that every example passes once"
        raise CheckSkippedError(msg)
    ranges = [range(first, first + _DRAWS_OF_PART) for first in range(0, _PARTS * _DRAWS_OF_PART, _DRAWS_OF_PART)]
    parts = [able.to_numpy(able.sampled_residual_diagonal(point, units, draws, seed)) for draws in ranges]
    check_restriction("sampled_residual_diagonal", parts[0], frozenset(units))
    expected = _expected(able, point, {name: np.mean([part[name] for part in parts], axis=0) for name in units}, seed)
    advice = "Draw signs for each example, position and output unit, and divide by the scale what the other side has times it"
    figures = {"standard_errors_off": _distance("sampled_residual_diagonal", parts, expected, advice)}
    few = {name: of_layer for name, of_layer in units.items() if of_layer.outputs <= _MOST_OUTPUTS}
    if few:
        exact = able.to_numpy(able.residual_diagonal(point, few))
        check_restriction("residual_diagonal", exact, frozenset(few))
        figures["roundings_off"] = _error(exact, [one for one in expected if one.entry[0] in few])
    return figures


def check_node_curvature(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that on groups below operations of known curvature, draws at these give the diagonal of H - G on average; other groups get zero.

    The largest and a random entry of up to six groups. Cost: 16 draws, and twelve products with each matrix.
    """
    able, point = capability(oracle, NodeCurvatureOracle), nearby_point(oracle, seed)
    if able is None or capability(oracle, GaussNewtonOracle) is None:
        msg = "the oracle does not know the curvature of the operations above its layers, or nothing else says what the residual part is"
        raise CheckSkippedError(msg)
    names = frozenset(name for name, count in able.node_counts(point).items() if count)
    if not names:
        return {"curved_groups": 0}
    parts = [
        able.to_numpy(able.propagated_residual_diagonal(point, names, range(draw, draw + 1), seed))
        for draw in range(_PARTS)
    ]
    check_restriction("propagated_residual_diagonal", parts[0], names)
    expected = _expected(able, point, {name: np.mean([part[name] for part in parts], axis=0) for name in names}, seed)
    advice = (
        "Leave out groups above which an operation is unknown, take the cotangents of the outputs with the weights of the loss, "
        "and draw signs for each operation, example and entry"
    )
    distance = _distance("propagated_residual_diagonal", parts, expected, advice)
    return {"curved_groups": len(names), "standard_errors_off": distance}


def _with_layers(oracle: CurvatureOracle) -> ResidualDiagonalOracle:
    able = capability(oracle, ResidualDiagonalOracle)
    if able is None:
        msg = "the oracle does not tell its layers apart; the residual part will be probed"
        raise CheckSkippedError(msg)
    if capability(oracle, GaussNewtonOracle) is None:
        msg = (
            "the oracle does not multiply with the Gauss-Newton matrix, so nothing else says what the residual part is"
        )
        raise CheckSkippedError(msg)
    return able


def _expected(oracle: CurvatureOracle, point: ParameterVector, values: HostArrays, seed: int) -> list[_Expected]:
    """Take entries from columns of H and of G, the largest and a random one of some groups, in scaled coordinates."""
    able = capability(oracle, GaussNewtonOracle)
    assert able is not None
    sizes, eps = oracle.to_numpy(magnitudes(oracle)), machine_epsilon(oracle)
    found: list[tuple[Entry, float, float]] = []
    for entry in chosen_entries({name: array * sizes[name] ** 2 for name, array in values.items()}, seed):
        unit, (name, index) = unit_vector(oracle, entry), entry
        hessian, gauss_newton = able.hessian_vector_product(point, unit), able.gauss_newton_vector_product(point, unit)
        h, g = (float(oracle.to_numpy(column)[name][index]) for column in (hessian, gauss_newton))
        found.append((entry, h, g))
    # rounding somewhere in the network reaches every entry
    squared = {entry: float(sizes[entry[0]][entry[1]]) ** 2 for entry, _, _ in found}
    whole = max((abs(h) + abs(g)) * squared[entry] for entry, h, g in found)
    return [
        _Expected(entry, h - g, tolerance_of_rounding(eps) * (abs(h) + abs(g)) + 1e3 * eps * whole / squared[entry])
        for entry, h, g in found
    ]


def _error(exact: HostArrays, expected: Collection[_Expected]) -> float:
    """Return the largest distance of the diagonal from what is expected, in what rounding explains."""
    worst = 0.0
    for (name, index), value, rounding in expected:
        found = float(exact[name][index])
        worst = max(worst, abs(found - value) / rounding if found != value else 0.0)
        if worst > 1:
            msg = (
                f"residual_diagonal is {found:.6g} in {name!r} at {index}, but the columns of the Hessian and of the Gauss-Newton "
                f"matrix differ there by {value:.6g}. Hold the cotangents of the outputs fixed, with the weights of the loss; perturb one "
                f"layer at a time, with a unit vector for each position and output unit; leave out groups that enter the model elsewhere, too"
            )
            raise CheckFailedError(msg, {"roundings_off": worst})
    return worst


def _distance(method: str, parts: Sequence[HostArrays], expected: Collection[_Expected], advice: str) -> float:
    """Return the largest distance of the mean of all parts from what is expected, in standard errors."""
    worst = 0.0
    for (name, index), value, rounding in expected:
        values = np.array([part[name][index] for part in parts])
        distance = standard_errors_off(values, value, rounding)
        worst = max(worst, distance)
        if distance > _STANDARD_ERRORS:
            msg = (
                f"the mean of all draws of {method} is {values.mean():.4g} in {name!r} at {index}, "
                f"{distance:.0f} standard errors from {value:.4g}, by which the columns of the Hessian and of the Gauss-Newton matrix "
                f"differ. {advice}"
            )
            raise CheckFailedError(msg, {"standard_errors_off": distance})
    return worst
