"""What is known of the diagonal of the Hessian, group by group, and how it was obtained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.estimate import methods_in_words
from invariant_sharpness.protocol import HostArrays

HostArray = npt.NDArray[np.float64]
Method = Literal["exact", "exact (columns)", "probes", "XDiag", "sampled outputs"]


@dataclass(frozen=True, slots=True)
class GroupDiagonal:
    """The diagonal of one group.

    Parameters
    ----------
    values
        In the parameter's shape, on the host.
    method
        ``"exact"``, ``"exact (columns)"``, ``"probes"`` (of the Hessian), ``"XDiag"`` or ``"sampled outputs"``.
    parts
        Of a sampled diagonal: independent means of equal numbers of draws, shape ``(parts, *shape)``. Of XDiag: pseudo-values,
        whose scatter tells the error of sums over entries, and which are not independent.
    """

    values: HostArray
    method: Method
    parts: HostArray | None = None


class Scatter(NamedTuple):
    """A standard error, and from how many degrees of freedom it is known."""

    standard_error: float
    degrees_of_freedom: int


@dataclass(frozen=True, slots=True)
class HessianDiagonal:
    """The diagonal of the Hessian, group by group, with its provenance.

    Parameters
    ----------
    groups
        The groups whose diagonal is known.
    probes
        Number of probes or draws, for those that were sampled.
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

    def scatter(self, derivatives: HostArrays) -> Scatter | None:
        """How a function of the diagonal with these derivatives scatters, to first order; None if no group was sampled.

        Parts of one method come from the same draws, those of different methods are independent.
        """
        variance, freedom = 0.0, 0
        for method in sorted({self[name].method for name in derivatives if self[name].parts is not None}):
            totals = np.sum(
                [
                    np.tensordot(group.parts, derivative, axes=derivative.ndim)
                    for name, derivative in derivatives.items()
                    if (group := self[name]).parts is not None and group.method == method
                ],
                axis=0,
            )
            variance += float(np.var(totals, ddof=1)) / len(totals)
            freedom = min(freedom or len(totals), len(totals) - 1)
        return Scatter(variance**0.5, freedom) if freedom else None

    def standard_error(self, derivatives: HostArrays) -> float | None:
        """Standard error, to first order, of a function of the diagonal with these derivatives.

        None if no group in ``derivatives`` was sampled.
        """
        scatter = self.scatter(derivatives)
        return None if scatter is None else scatter.standard_error

    def method(self, names: frozenset[str]) -> str:
        """How the named groups were obtained, in words."""
        return methods_in_words([group.method for name, group in self.groups.items() if name in names], self.probes)

    def note(self, name: str) -> str:
        """Why a group is not exact; empty if it is, or nothing is known."""
        if name not in self.defects or (name in self.groups and self[name].method in ("exact", "sampled outputs")):
            return ""
        return f"the outputs are not affine in it: defect {self.defects[name]:.2g}"
