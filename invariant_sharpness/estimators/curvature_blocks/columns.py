"""Blocks from columns of the Gauss-Newton matrix, one product each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from invariant_sharpness.coordinates import GaussNewton
from invariant_sharpness.estimators.curvature_blocks.places import Blocks, Places, number_of_entries
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

Entry = tuple[str, tuple[int, ...]]


def blocks_of_columns(oracle: CurvatureOracle, places: Places) -> Blocks:
    """All blocks, exactly. Cost: a Gauss-Newton product for each entry."""
    result = {name: np.zeros((*place.shape, place.shape[-1])) for name, place in places.items()}
    entries = [(name, index) for name, place in places.items() for index in np.ndindex(*place.shape)]
    units = _unit_vectors(oracle, places, entries)
    curved = GaussNewton(oracle)
    pairs = hessian_vector_products(curved, units, number_of_entries(places), "columns of the Gauss-Newton matrix")
    for (name, index), (_, product) in zip(entries, pairs, strict=True):
        column = oracle.to_numpy(product)[name].ravel()
        result[name][index] = column[places[name][index[:-1]]]
    return {name: (blocks + np.swapaxes(blocks, -1, -2)) / 2 for name, blocks in result.items()}


def _unit_vectors(oracle: CurvatureOracle, places: Places, entries: list[Entry]) -> Iterator[ParameterVector]:
    for name, index in entries:
        arrays = {group.name: np.zeros(group.shape) for group in oracle.groups}
        arrays[name].ravel()[places[name][index]] = 1.0
        yield oracle.from_numpy(arrays)
