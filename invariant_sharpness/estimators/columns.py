"""Diagonal entries from columns of the Hessian, exactly, where there are few."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from invariant_sharpness.estimators.diagonals.group_diagonals import GroupDiagonal
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


def column_groups(oracle: CurvatureOracle, names: frozenset[str]) -> dict[str, GroupDiagonal]:
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
