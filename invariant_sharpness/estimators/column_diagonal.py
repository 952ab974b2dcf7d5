"""The diagonal entry by entry, each from its own column of the Hessian: exact, and the cheapest way where entries are few."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.estimators.products import tracked_products
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle, capability

_MOST_COLUMNS, _TIMES, _MOST_WORK = 512, 8, 2**20
"""So many columns, of so many times what would be spent, are taken where these columns times the examples are no more than this: a second or two."""


def affords_columns(oracle: CurvatureOracle, entries: int, products: int) -> bool:
    """Whether the columns of so many entries cost no more than the products, or so little that nobody has to wait for them."""
    if entries <= products:
        return True
    counted = capability(oracle, SubsetOracle)
    few = counted is not None and entries * counted.examples <= _MOST_WORK
    return few and entries <= min(_MOST_COLUMNS, _TIMES * products)


def column_groups(oracle: CurvatureOracle, names: frozenset[str]) -> dict[str, GroupDiagonal]:
    """Take each diagonal entry from its own column of the Hessian, exactly. Cost: as many products as entries."""
    if not names:
        return {}
    shapes = {g.name: g.shape for g in oracle.groups}
    result = {name: np.zeros(shapes[name]) for name in names}
    entries = [(name, index) for name in sorted(names) for index in range(result[name].size)]
    units = (unit_vector(oracle, *entry) for entry in entries)
    pairs = tracked_products(oracle, units, len(entries), "columns of the Hessian")
    for (name, index), (_, column) in zip(entries, pairs, strict=True):
        place = np.unravel_index(index, shapes[name])
        result[name][place] = float(column[name][place])
    return {name: GroupDiagonal(result[name], "exact (columns)") for name in names}
