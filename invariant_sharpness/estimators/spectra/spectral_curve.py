"""A function of the eigenvalue, with its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from invariant_sharpness.estimators.subspaces.basis import HostArray


@dataclass(frozen=True, slots=True, eq=False)
class SpectralCurve:
    """A function of the eigenvalue, with standard errors over the probes.

    Parameters
    ----------
    grid
        Eigenvalues.
    values, standard_errors
        Of the function there.
    width
        Standard deviation of the Gaussian that smooths each eigenvalue; zero for none.
    """

    grid: HostArray
    values: HostArray
    standard_errors: HostArray
    width: float

    def __str__(self) -> str:
        smoothed = f"smoothed by a Gaussian of width {self.width:.2g}" if self.width else "not smoothed"
        return f"{len(self.grid)} points from {self.grid[0]:.6g} to {self.grid[-1]:.6g}, {smoothed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        arrays = {"grid": self.grid, "values": self.values, "standard_errors": self.standard_errors}
        return {name: array.tolist() for name, array in arrays.items()} | {"width": self.width}
