r"""Blocks from the Gauss-Newton matrices of single examples, whose rank is no more than the number of outputs.

A positive semidefinite matrix of rank K is known from its products with K random vectors, the columns of :math:`\Omega`:
:math:`G_n = Y (\Omega^T Y)^+ Y^T` with :math:`Y = G_n \Omega`. The blocks of all examples are added up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from invariant_sharpness import probes as random
from invariant_sharpness.coordinates import GaussNewton, Scaled, balanced
from invariant_sharpness.estimators.curvature_blocks.places import (
    Blocks,
    HostArray,
    Places,
    flat_entries,
    offsets,
)
from invariant_sharpness.estimators.products import multiplied
from invariant_sharpness.memory import room_for_vectors
from invariant_sharpness.precision import unit_of_rounding
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle

_HELD_EXAMPLES = 256
"""So many examples are taken into memory at once: each time is one pass over the data."""


def blocks_of_examples(oracle: SubsetOracle, places: Places, outputs: int, seed: int) -> Blocks | None:
    """All blocks, exactly; None if the loss is no plain mean over examples, as with weights of classes.

    Cost: twice as many Gauss-Newton products as an example has outputs, half of them example by example.
    """
    scaled = Scaled(oracle, balanced(oracle))
    scale = flat_entries(oracle, oracle.to_numpy(scaled.scale), places)
    with room_for_vectors(oracle, 2 * outputs, "the Gauss-Newton matrix of an example"):
        signs = [random.signs(oracle, seed, index).only(places) for index in range(outputs)]
        omega = np.stack([flat_entries(oracle, oracle.to_numpy(sign), places) for sign in signs])

        def products(part: CurvatureOracle) -> HostArray:
            vectors = (oracle.to_numpy(product) for product in multiplied(GaussNewton(part), signs))
            return np.stack([flat_entries(oracle, arrays, places) for arrays in vectors])

        result = {name: np.zeros((*place.shape, place.shape[-1])) for name, place in places.items()}
        total = np.zeros_like(omega)
        rounding = unit_of_rounding(oracle)
        for part in track(_examples(scaled), "examples one by one", oracle.examples, gradients=0.0):
            found = products(part)
            total += found
            _add(result, oracle, places, omega @ found.T, found / scale, rounding)
        if not _is_mean(total / oracle.examples, products(scaled), rounding):
            return None
    return {name: blocks / oracle.examples for name, blocks in result.items()}


def _examples(oracle: Scaled) -> Iterator[CurvatureOracle]:
    for start in range(0, oracle.examples, _HELD_EXAMPLES):
        held = oracle.subset(range(start, min(start + _HELD_EXAMPLES, oracle.examples)))
        for number in range(held.examples):
            yield held.subset([number])


def _add(
    result: Blocks, oracle: CurvatureOracle, places: Places, seen: HostArray, products: HostArray, rounding: float
) -> None:
    """Add the blocks of one example; eigenvalues of what the vectors see that are rounding beside the largest are left out."""
    values, vectors = np.linalg.eigh((seen + seen.T) / 2)
    kept = np.abs(values) > rounding * len(values) * np.abs(values).max()
    rows = vectors[:, kept].T @ products
    for name, start in offsets(oracle, places).items():
        own = rows[:, start + places[name]]
        result[name] += np.einsum("n,n...k,n...l->...kl", 1 / values[kept], own, own)


def _is_mean(mean: HostArray, whole: HostArray, rounding: float) -> bool:
    return bool(np.linalg.norm(mean - whole) <= np.sqrt(rounding) * np.linalg.norm(whole))
