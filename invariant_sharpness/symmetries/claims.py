"""Which claims of a metric cover which symmetry."""

from __future__ import annotations

from collections.abc import Collection, Mapping

COVERED_BY: Mapping[str, frozenset[str]] = {
    "layer": frozenset({"layer", "row_column", "diagonal", "linear"}),
    "row_column": frozenset({"row_column", "diagonal", "linear"}),
    "permutation": frozenset({"permutation", "linear"}),
    "head": frozenset({"head", "linear"}),
    "output_scale": frozenset({"output_scale"}),
    "output_shift": frozenset({"output_shift"}),
}
"""The invariances of which each is enough to survive the symmetries of a kind."""


def covers(invariances: Collection[str], kind: str) -> bool:
    """Whether a metric that declares these invariances claims to survive symmetries of this kind."""
    return not COVERED_BY[kind].isdisjoint(invariances)
