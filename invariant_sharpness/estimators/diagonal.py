"""The diagonal of the Hessian: exact where that is free, from probes elsewhere.

Each group says how its part was obtained. Groups in which the network is affine (certified, see
``exactness``) get the exact Gauss-Newton diagonal in as many backward passes as there are outputs.
The others get the columns of the Hessian if there are few, and otherwise Rademacher probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimate import methods_in_words
from invariant_sharpness.estimators.exactness import curvature_defects, exact_groups
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle, HostArrays, require, supports
from invariant_sharpness.vector import ParameterVector

HostArray = npt.NDArray[np.float64]
Method = Literal["exact", "exact (columns)", "probes"]

MOST_OUTPUTS = 1024
"""Above this many outputs per example the exact diagonal would take as many backward passes."""

_PARTS = 10
"""Probes are averaged in this many parts, whose scatter gives the standard error."""


@dataclass(frozen=True, slots=True)
class GroupDiagonal:
    """The diagonal of one group.

    Parameters
    ----------
    values
        In the parameter's shape, on the host.
    method
        ``"exact"``, ``"exact (columns)"`` or ``"probes"``.
    parts
        For probes: independent means of equal numbers of probes, shape ``(parts, *shape)``.
    """

    values: HostArray
    method: Method
    parts: HostArray | None = None


@dataclass(frozen=True, slots=True)
class HessianDiagonal:
    """The diagonal of the Hessian, group by group, with its provenance.

    Parameters
    ----------
    groups
        The groups whose diagonal is known.
    probes
        Number of probes, for those that were sampled.
    defects
        What the certificate measured, for these and other groups: zero up to rounding where the
        Gauss-Newton diagonal is exact. Empty if the oracle cannot be asked.
    """

    groups: Mapping[str, GroupDiagonal]
    probes: int = 0
    defects: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> GroupDiagonal:
        return self.groups[name]

    @property
    def arrays(self) -> dict[str, HostArray]:
        """The diagonal of each group, on the host."""
        return {name: group.values for name, group in self.groups.items()}

    def standard_error(self, derivatives: HostArrays) -> float | None:
        """Standard error, to first order, of a function of the diagonal with these derivatives.

        None if no group in ``derivatives`` was sampled.
        """
        effects = [
            np.tensordot(parts, derivative, axes=derivative.ndim)
            for name, derivative in derivatives.items()
            if (parts := self[name].parts) is not None
        ]
        if not effects:
            return None
        totals = np.sum(effects, axis=0)
        return float(np.std(totals, ddof=1) / np.sqrt(len(totals)))

    def method(self, names: frozenset[str]) -> str:
        """How the named groups were obtained, in words."""
        return methods_in_words([group.method for name, group in self.groups.items() if name in names], self.probes)

    def note(self, name: str) -> str:
        """Why a group is not exact; empty if it is, or nothing is known."""
        if name not in self.defects or (name in self.groups and self[name].method == "exact"):
            return ""
        return f"the outputs are not affine in it: defect {self.defects[name]:.2g}"


def hessian_diagonal(
    oracle: CurvatureOracle,
    *,
    names: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    known: HessianDiagonal | None = None,
) -> HessianDiagonal:
    r"""The diagonal :math:`h_i = \partial^2 L / \partial\theta_i^2` on the named groups (default: all).

    Exact groups cost at most one backward pass per output with per-example squaring, whatever the number
    of groups. If the others have no more entries than ``probes``, their columns are computed. If they have more, a
    quarter of the probes is drawn in the coordinates of ``balanced``; they give the scale ``optimal``, in which the
    others are drawn: :math:`\hat h = \varepsilon \circ H(s \circ \varepsilon) / s`. Both scales are equivariant, so every
    single draw transforms as h does. Cost: ``probes`` Hessian-vector products; memory for ten copies of the
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
    if known is None:
        known = exact_diagonal(oracle, names=chosen, seed=seed)
    rest = chosen - known.groups.keys()
    few = _size(oracle, rest) <= probes
    found = _columns(oracle, rest) if few else _two_stages(oracle, rest, probes, seed)
    groups = {**known.groups, **found}
    return HessianDiagonal({g.name: groups[g.name] for g in oracle.groups if g.name in groups}, probes, known.defects)


def exact_diagonal(oracle: CurvatureOracle, *, names: frozenset[str] | None = None, seed: int = 0) -> HessianDiagonal:
    """The diagonal of those named groups (default: all) of which the certificate says that it is exact.

    Cost: one backward pass per output with per-example squaring, and the certificate. Empty if the oracle
    does not know the Gauss-Newton diagonal, or has more than ``MOST_OUTPUTS`` outputs per example.
    """
    chosen = _checked(oracle, names)
    if not supports(oracle, GaussNewtonDiagonalOracle):
        return HessianDiagonal({})
    differentiable = require(oracle, GaussNewtonDiagonalOracle, metric="exact_diagonal")
    if differentiable.outputs_per_example > MOST_OUTPUTS:
        return HessianDiagonal({})
    defects = curvature_defects(differentiable, seed)
    exact = exact_groups(differentiable, defects) & chosen
    if not exact:
        return HessianDiagonal({}, defects=defects)
    diagonal = oracle.to_numpy(differentiable.gauss_newton_diagonal(oracle.parameters, exact))
    groups = {name: GroupDiagonal(diagonal[name], "exact") for name in diagonal if name in exact}
    return HessianDiagonal(groups, defects=defects)


def probe_means(
    oracle: CurvatureOracle, names: frozenset[str], scale: ParameterVector, indices: range, seed: int
) -> dict[str, HostArray]:
    """Means of the probes with these indices, in parts, probing the named groups at once."""
    count = min(_PARTS, len(indices))
    sums: list[ParameterVector | None] = [None] * count
    sizes = np.bincount(np.arange(len(indices)) % count)
    directions = ((scale * random.signs(oracle, seed, index)).only(names) for index in indices)
    pairs = hessian_vector_products(oracle, directions, len(indices), "probing the diagonal")
    for position, (direction, product) in enumerate(pairs):
        draw = direction * product / (scale * scale)
        part = sums[position % count]
        sums[position % count] = draw if part is None else part + draw
    means = [oracle.to_numpy(part / float(n)) for part, n in zip(sums, sizes, strict=True) if part is not None]
    return {name: np.stack([mean[name] for mean in means]) for name in names}


def _two_stages(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, GroupDiagonal]:
    pilot = range(probes // 4)
    remaining = probes - len(pilot)
    equal_parts = remaining - remaining % min(_PARTS, remaining)
    first = probe_means(oracle, names, balanced(oracle), pilot, seed)
    scale = optimal(oracle, {name: parts.mean(axis=0) for name, parts in first.items()})
    parts = probe_means(oracle, names, scale, range(len(pilot), len(pilot) + equal_parts), seed)
    return {n: GroupDiagonal(parts[n].mean(axis=0), "probes", parts[n]) for n in names}


def _columns(oracle: CurvatureOracle, names: frozenset[str]) -> dict[str, GroupDiagonal]:
    """No more columns than probes: each diagonal entry from its own column, exactly."""
    shapes = {g.name: g.shape for g in oracle.groups}
    result = {name: np.zeros(shapes[name]) for name in names}
    entries = [(name, index) for name in sorted(names) for index in np.ndindex(*shapes[name])]
    units = (_unit_vector(oracle, shapes, entry) for entry in entries)
    pairs = hessian_vector_products(oracle, units, len(entries), "columns of the Hessian")
    for (name, index), (_, column) in zip(entries, pairs, strict=True):
        result[name][index] = float(column[name][index])
    return {name: GroupDiagonal(result[name], "exact (columns)") for name in names}


def _unit_vector(
    oracle: CurvatureOracle, shapes: Mapping[str, tuple[int, ...]], entry: tuple[str, tuple[int, ...]]
) -> ParameterVector:
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    arrays[entry[0]][entry[1]] = 1.0
    return oracle.from_numpy(arrays)


def _size(oracle: CurvatureOracle, names: frozenset[str]) -> int:
    return sum(group.size for group in oracle.groups if group.name in names)


def _checked(oracle: CurvatureOracle, names: frozenset[str] | None) -> frozenset[str]:
    existing = frozenset(group.name for group in oracle.groups)
    unknown = (names or frozenset()) - existing
    if unknown:
        msg = f"there is no parameter group {', '.join(sorted(unknown))}; the groups are {', '.join(sorted(existing))}"
        raise ValueError(msg)
    return existing if names is None else names
