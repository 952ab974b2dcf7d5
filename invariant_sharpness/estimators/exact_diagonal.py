"""Diagonal entries from columns of the Hessian, exactly, where there are few.

The diagonal of the Hessian: exact where that is free, sampled elsewhere.

Each group says how its part was obtained. Groups in which the network is affine (certified, see ``exactness``) get the
exact Gauss-Newton diagonal in as many backward passes as there are outputs, or, if these are many, a mean over sampled
outputs. The others get the columns of the Hessian if there are few, and otherwise Rademacher probes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.diagonals import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.products import tracked_products
from invariant_sharpness.estimators.sampled_diagonal import probed_groups, sampled_groups
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    SampledGaussNewtonOracle,
    require,
    supports,
)


def column_groups(oracle: CurvatureOracle, names: frozenset[str]) -> dict[str, GroupDiagonal]:
    """No more columns than probes: each diagonal entry from its own column, exactly."""
    shapes = {g.name: g.shape for g in oracle.groups}
    result = {name: np.zeros(shapes[name]) for name in names}
    entries = [(name, index) for name in sorted(names) for index in range(result[name].size)]
    units = (unit_vector(oracle, *entry) for entry in entries)
    pairs = tracked_products(oracle, units, len(entries), "columns of the Hessian")
    for (name, index), (_, column) in zip(entries, pairs, strict=True):
        place = np.unravel_index(index, shapes[name])
        result[name][place] = float(column[name][place])
    return {name: GroupDiagonal(result[name], "exact (columns)") for name in names}


MOST_OUTPUTS = 256
"""Above this many outputs per example the exact diagonal would take as many backward passes: outputs are sampled."""


def hessian_diagonal(
    oracle: CurvatureOracle,
    *,
    names: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    known: HessianDiagonal | None = None,
) -> HessianDiagonal:
    r"""The diagonal :math:`h_i = \partial^2 L / \partial\theta_i^2` on the named groups (default: all).

    Certified groups cost at most one backward pass per output with per-example squaring, whatever the number of
    groups; ``probes`` such passes if an example has more than ``MOST_OUTPUTS`` outputs. If the others have no more entries
    than ``probes``, their columns are computed. If they have more, they are probed in two stages, for ``probes``
    Hessian-vector products. Every draw transforms under a rescaling exactly as h does. Memory for ten copies of the
    sampled groups.

    Parameters
    ----------
    known
        Groups that are known already, from :func:`exact_diagonal`; they are part of the result.

    Raises
    ------
    ValueError
        If ``probes`` is less than 4, or a group is not known.
    """
    random.require_probes(probes, 4)
    chosen = _checked(oracle, names)
    certified = certified_diagonal(oracle, names=chosen, probes=probes, seed=seed, known=known)
    rest = chosen - certified.groups.keys()
    few = sum(group.size for group in oracle.groups if group.name in rest) <= probes
    others = column_groups(oracle, rest) if few else probed_groups(oracle, rest, probes, seed)
    return _in_order(oracle, {**certified.groups, **others}, probes, certified.defects)


def certified_diagonal(
    oracle: CurvatureOracle,
    *,
    names: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    known: HessianDiagonal | None = None,
) -> HessianDiagonal:
    """The diagonal of the certified ones among the named groups (default: all), exact or from sampled outputs.

    Cost: as many backward passes with per-example squaring as there are outputs, or ``probes`` if these are fewer and an
    example has more than ``MOST_OUTPUTS`` outputs; and the certificate.
    """
    chosen = _checked(oracle, names)
    if known is None:
        known = exact_diagonal(oracle, names=chosen, seed=seed)
    sampled = _sampled(oracle, chosen - known.groups.keys(), known, probes, seed)
    return _in_order(oracle, {**known.groups, **sampled}, probes, known.defects)


def exact_diagonal(oracle: CurvatureOracle, *, names: frozenset[str] | None = None, seed: int = 0) -> HessianDiagonal:
    """The diagonal of those named groups (default: all) of which the certificate says that it is exact.

    Cost: one backward pass per output with per-example squaring, and the certificate. It has no groups, but the verdicts
    of the certificate, if an example has more than ``MOST_OUTPUTS`` outputs, and nothing if the oracle does not know
    the Gauss-Newton diagonal.
    """
    chosen = _checked(oracle, names)
    if not supports(oracle, GaussNewtonDiagonalOracle):
        return HessianDiagonal({})
    able = require(oracle, GaussNewtonDiagonalOracle, metric="exact_diagonal")
    defects = curvature_defects(able, seed)
    exact = exact_groups(able, defects) & chosen
    if able.outputs_per_example > MOST_OUTPUTS or not exact:
        return HessianDiagonal({}, defects=defects)
    diagonal = oracle.to_numpy(able.gauss_newton_diagonal(oracle.parameters, exact))
    groups = {name: GroupDiagonal(diagonal[name], "exact") for name in diagonal if name in exact}
    return HessianDiagonal(groups, defects=defects)


def _sampled(
    oracle: CurvatureOracle, names: frozenset[str], known: HessianDiagonal, draws: int, seed: int
) -> dict[str, GroupDiagonal]:
    """Those of the named groups that are certified, if the oracle can sample outputs."""
    if not known.defects or not supports(oracle, SampledGaussNewtonOracle):
        return {}
    able = require(oracle, SampledGaussNewtonOracle, metric="hessian_diagonal")
    certified = exact_groups(oracle, known.defects) & names
    return sampled_groups(able, certified, draws, seed) if certified and able.samples_outputs else {}


def _in_order(
    oracle: CurvatureOracle, groups: dict[str, GroupDiagonal], probes: int, defects: Mapping[str, float]
) -> HessianDiagonal:
    return HessianDiagonal({g.name: groups[g.name] for g in oracle.groups if g.name in groups}, probes, defects)


def _checked(oracle: CurvatureOracle, names: frozenset[str] | None) -> frozenset[str]:
    existing = frozenset(group.name for group in oracle.groups)
    unknown = (names or frozenset()) - existing
    if unknown:
        msg = f"there is no parameter group {', '.join(sorted(unknown))}; the groups are {', '.join(sorted(existing))}"
        raise ValueError(msg)
    return existing if names is None else names
