"""What is known of the ends of the spectrum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from invariant_sharpness.vector import ParameterVector


@dataclass(frozen=True, slots=True)
class ExtremeEigenvalue:
    r"""A Ritz value with its residual :math:`\|H v - \lambda v\|`: some eigenvalue is that close to it."""

    value: float
    residual: float
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True)
class Eigenpair:
    r"""A Ritz value, its vector of norm 1, and the residual :math:`\|H v - \lambda v\|`: some eigenvalue is that close."""

    value: float
    vector: ParameterVector = field(repr=False)
    residual: float
    converged: bool

    def __str__(self) -> str:
        state = "" if self.converged else ", NOT CONVERGED"
        return f"eigenvalue {self.value:.6g} (residual {self.residual:.0e}{state})"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, without the vector."""
        return {"value": self.value, "residual": self.residual, "converged": self.converged}


@dataclass(frozen=True, slots=True)
class Eigenpairs:
    """The ends of the spectrum.

    Parameters
    ----------
    largest
        The largest eigenvalues, the very largest first.
    smallest
        The smallest ones, which can be negative, the very smallest first.
    products
        Hessian-vector products that it took.
    """

    largest: tuple[Eigenpair, ...]
    smallest: tuple[Eigenpair, ...]
    products: int

    @property
    def converged(self) -> bool:
        """Whether all residuals reached the tolerance."""
        return all(pair.converged for pair in (*self.largest, *self.smallest))

    def __str__(self) -> str:
        ends = {"largest": self.largest, "smallest": self.smallest}
        words = [f"{name} {', '.join(f'{p.value:.6g}' for p in pairs)}" for name, pairs in ends.items() if pairs]
        worst = max(pair.residual for pair in (*self.largest, *self.smallest))
        state = "" if self.converged else ", NOT CONVERGED"
        return f"eigenvalues: {'; '.join(words)} (residuals ≤ {worst:.0e}{state}; {self.products} products)"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, without the vectors."""
        return {
            "largest": [pair.to_dict() for pair in self.largest],
            "smallest": [pair.to_dict() for pair in self.smallest],
            "products": self.products,
            "converged": self.converged,
        }
