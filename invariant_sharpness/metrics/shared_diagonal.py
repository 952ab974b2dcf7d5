"""The diagonal of the Hessian that several metrics share: what each of them takes from one that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from invariant_sharpness.errors import ModelError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.metrics.target_errors import to_error
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate

COST_OF_DIAGONAL = "3 to 8 gradients for ten outputs where the diagonal is exact, else 64 products, 80 to 200 gradients"
"""As measured in three frameworks, where one product with the Hessian costs 1.3 to 3.1 gradients."""


_INDEPENDENT = ("exact", "exact (units)", "curvature propagation", "layer draws", "sampled outputs")


def require_diagonal(oracle: Any, given: object) -> None:
    """Raise :class:`ModelError` unless ``given`` is None, or a diagonal of this oracle's groups, told by names and shapes."""
    otherwise = "pass what hessian_diagonal(oracle) returns, or leave it out"
    if given is None:
        return
    if not isinstance(given, HessianDiagonal):
        msg = f"diagonal is a {type(given).__name__}, but it has to be a HessianDiagonal: {otherwise}"
        raise ModelError(msg)
    shapes = {group.name: group.shape for group in oracle.groups}
    for name, group in given.groups.items():
        if shapes.get(name) != group.values.shape:
            msg = f"the diagonal has a group {name!r} of shape {group.values.shape}, which the oracle has not: {otherwise}"
            raise ModelError(msg)


def diagonal_of(
    oracle: CurvatureOracle,
    names: frozenset[str],
    given: HessianDiagonal | None,
    *,
    probes: int,
    budget: float | None,
    seed: int,
) -> HessianDiagonal:
    """Return the diagonal of the named groups: the given one if it has them all, and otherwise a new one.

    A new one takes over what does not depend on the other groups that were asked for, so that the value of a metric
    is the same in a report and by itself.
    """
    if given is not None and names <= given.groups.keys():
        return given
    known = None if given is None else independent_groups(given)
    return hessian_diagonal(oracle, parameters=names, probes=probes, budget=budget, seed=seed, diagonal=known)


def estimated(
    measured: Callable[[HessianDiagonal], Estimate],
    oracle: CurvatureOracle,
    names: frozenset[str],
    given: HessianDiagonal | None,
    *,
    probes: int,
    budget: float | None,
    relative_error: float | None,
    seed: int,
) -> Estimate:
    """Return what is measured from the diagonal of the named groups, which is drawn until the error is small enough if one is asked for."""

    def within(gradients: float | None, stage: int) -> HessianDiagonal:
        own = seed if stage else seed ^ _FIRST_STAGE
        return diagonal_of(oracle, names, given, probes=probes, budget=gradients, seed=own)

    if relative_error is None:
        return measured(within(budget, 1))
    return to_error(within, measured, relative_error=relative_error, budget=budget)


_FIRST_STAGE = 2**62
"""What the seed of the first stage differs by, so that the second one draws other numbers."""


def independent_groups(diagonal: HessianDiagonal) -> HessianDiagonal:
    """Return the groups whose diagonal is the same whichever other groups are asked for."""
    kept = {name: group for name, group in diagonal.groups.items() if group.method in _INDEPENDENT}
    return replace(diagonal, groups=kept)
