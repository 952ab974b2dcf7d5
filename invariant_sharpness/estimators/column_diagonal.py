"""The diagonal entry by entry, each from its own column of the Hessian: exact, and the cheapest way where entries are few."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.estimators.products import numbers_of_products
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
    groups = [group for group in oracle.groups if group.name in names]
    entries = [(group.name, index) for group in groups for index in range(group.size)]
    found = numbers_of_products(
        oracle,
        lambda number: unit_vector(oracle, *entries[number]),
        len(entries),
        "columns of the Hessian",
        lambda unit, column: [unit.dot(column)],
        *sorted(names),
    ).ravel()
    parts = np.split(found, np.cumsum([group.size for group in groups])[:-1])
    return {
        group.name: GroupDiagonal(part.reshape(group.shape), "exact (columns)")
        for group, part in zip(groups, parts, strict=True)
    }
