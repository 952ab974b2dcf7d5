"""Two measurements of one model, compared metric by metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.results.estimate import Estimate


class Measured(Protocol):
    """What :class:`invariant_sharpness.Report` offers to comparisons and pictures."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Each estimate by the name of its metric."""
        ...

    @property
    def invariances(self) -> Mapping[str, frozenset[str]]:
        """The declared invariances of each metric."""
        ...


def factors(before: Mapping[str, Estimate], after: Mapping[str, Estimate]) -> dict[str, float]:
    """Divide the value of each metric afterwards by that before; NaN if that was zero.

    Raises
    ------
    ArgumentError
        If the reports have different metrics.
    """
    if list(before) != list(after):
        msg = (
            f"before, {', '.join(before)} were measured, and after, {', '.join(after)}: measure the same metrics twice"
        )
        raise ArgumentError(msg)
    return {name: ratio(after[name].value, before[name].value) for name in before}


def ratio(above: float, below: float) -> float:
    """Divide; NaN if ``below`` is zero."""
    return above / below if below != 0 else float("nan")


def factor_text(factor: float) -> str:
    """Write a factor in few characters, with all digits where it is close to 1."""
    return f"{factor:.6f}" if 0.9 < factor < 1.1 else f"{factor:.3g}"
