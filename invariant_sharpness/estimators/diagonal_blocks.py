r"""Diagonal blocks of the Gauss-Newton matrix, by the cheaper of two exact ways.

One is a product for each column of a block. The other adds up the matrices of single examples, whose rank is no more than the
number K of outputs: a matrix of rank K is known from its products with K random vectors, the columns of :math:`\Omega`, as
:math:`G_n = Y (\Omega^T Y)^+ Y^T` with :math:`Y = G_n \Omega`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.coordinates import GaussNewton, Scaled, balanced
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.affine_groups import MOST_OUTPUTS
from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.products import multiplied, tracked_products
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    SubsetOracle,
    capability,
    machine_epsilon,
    require,
)
from invariant_sharpness.runtime.memory import reserve
from invariant_sharpness.runtime.progress import track

HostArray = npt.NDArray[np.float64]

Places = Mapping[str, npt.NDArray[np.intp]]
"""Of each group the positions of its entries in C order, with the entries of one block along the last axis."""

Blocks = dict[str, HostArray]
"""Of each group the blocks, with one axis more than its places."""


def number_of_entries(places: Places) -> int:
    """Return the number of parameters in all blocks."""
    return sum(place.size for place in places.values())


def flat_entries(oracle: CurvatureOracle, arrays: Mapping[str, HostArray], places: Places) -> HostArray:
    """Return the entries of the groups of the places, one group after the other."""
    return np.concatenate([arrays[group.name].ravel() for group in oracle.groups if group.name in places])


def offsets(oracle: CurvatureOracle, places: Places) -> dict[str, int]:
    """Return where each group begins among them."""
    found, start = {}, 0
    for group in oracle.groups:
        if group.name in places:
            found[group.name], start = start, start + group.size
    return found


def blocks_of_columns(oracle: CurvatureOracle, places: Places) -> Blocks:
    """Compute all blocks from columns, exactly. Cost: a Gauss-Newton product for each entry."""
    result = {name: np.zeros((*place.shape, place.shape[-1])) for name, place in places.items()}
    entries = [(name, index) for name, place in places.items() for index in np.ndindex(*place.shape)]
    units = (unit_vector(oracle, name, int(places[name][index])) for name, index in entries)
    curved = GaussNewton(oracle)
    pairs = tracked_products(curved, units, number_of_entries(places), "columns of the Gauss-Newton matrix")
    for (name, index), (_, product) in zip(entries, pairs, strict=True):
        column = oracle.to_numpy(product)[name].ravel()
        result[name][index] = column[places[name][index[:-1]]]
    return {name: (blocks + np.swapaxes(blocks, -1, -2)) / 2 for name, blocks in result.items()}


_EXAMPLES_IN_MEMORY = 256
"""So many examples are taken into memory at once: each time is one pass over the data."""


def blocks_of_examples(oracle: SubsetOracle, places: Places, outputs: int, seed: int) -> Blocks | None:
    """Compute all blocks from single examples, exactly; None if the loss is no plain mean over examples, as with weights of classes.

    Cost: twice as many Gauss-Newton products as an example has outputs, half of them example by example.
    """
    scaled = Scaled(oracle, balanced(oracle))
    scale = flat_entries(oracle, oracle.to_numpy(scaled.scale), places)
    with reserve(oracle, 2 * outputs, "the Gauss-Newton matrix of an example"):
        signs = [random.signs(oracle, seed, index).only(places) for index in range(outputs)]
        omega = np.stack([flat_entries(oracle, oracle.to_numpy(sign), places) for sign in signs])

        def products(part: CurvatureOracle) -> HostArray:
            vectors = (oracle.to_numpy(product) for product in multiplied(GaussNewton(part), signs))
            return np.stack([flat_entries(oracle, arrays, places) for arrays in vectors])

        result = {name: np.zeros((*place.shape, place.shape[-1])) for name, place in places.items()}
        total = np.zeros_like(omega)
        rounding = machine_epsilon(oracle)
        for part in track(_examples(scaled), "examples one by one", oracle.examples, gradients=0.0):
            found = products(part)
            total += found
            _add(result, oracle, places, omega @ found.T, found / scale, rounding)
        if not _is_mean(total / oracle.examples, products(scaled), rounding):
            return None
    return {name: blocks / oracle.examples for name, blocks in result.items()}


def _examples(oracle: Scaled) -> Iterator[CurvatureOracle]:
    for start in range(0, oracle.examples, _EXAMPLES_IN_MEMORY):
        held = oracle.subset(range(start, min(start + _EXAMPLES_IN_MEMORY, oracle.examples)))
        for number in range(held.examples):
            yield held.subset([number])


def _add(
    result: Blocks, oracle: CurvatureOracle, places: Places, seen: HostArray, products: HostArray, rounding: float
) -> None:
    """Add the blocks of one example; eigenvalues of what the vectors see that are rounding beside the largest are left out."""
    # pseudo-inverse of the small matrix, as far as its eigenvalues are above rounding
    values, vectors = np.linalg.eigh((seen + seen.T) / 2)
    kept = np.abs(values) > rounding * len(values) * np.abs(values).max()
    rows = vectors[:, kept].T @ products
    for name, start in offsets(oracle, places).items():
        # the entries of each block, and their outer products
        own = rows[:, start + places[name]]
        result[name] += np.einsum("n,n...k,n...l->...kl", 1 / values[kept], own, own)


def _is_mean(mean: HostArray, whole: HostArray, rounding: float) -> bool:
    return bool(np.linalg.norm(mean - whole) <= np.sqrt(rounding) * np.linalg.norm(whole))


_DOUBLE = 2.0**-52
"""Machine epsilon of the sums on the host."""


class CurvatureBlocks(NamedTuple):
    """The blocks of each group.

    Parameters
    ----------
    blocks
        By the name of the group.
    method
        ``"exact (examples)"`` or ``"exact (columns)"``.
    rounding
        Relative size of an eigenvalue that rounding makes out of zero. Sums of squares have less of it than columns.
    """

    blocks: Blocks
    method: str
    rounding: float


def gauss_newton_blocks(oracle: CurvatureOracle, places: Places, *, num_matvecs: int, seed: int) -> CurvatureBlocks:
    """Compute the blocks at these places, exactly.

    From the matrices of single examples, if the oracle can be restricted to them and they have few outputs, or else from
    one column for each entry.

    Parameters
    ----------
    places
        Which entries belong to a block.
    num_matvecs
        Number of products with the whole of the data, at most.

    Raises
    ------
    ArgumentError
        If more products are needed; says how many.
    """
    outputs, entries, rounding = _outputs(oracle), number_of_entries(places), machine_epsilon(oracle)
    if outputs is not None and 2 * outputs <= min(num_matvecs, entries):
        blocks = blocks_of_examples(require(oracle, SubsetOracle, metric="gauss_newton_blocks"), places, outputs, seed)
        if blocks is not None:
            return CurvatureBlocks(blocks, "exact (examples)", max(rounding**2, _DOUBLE))
    if entries > num_matvecs:
        msg = (
            f"the blocks of {', '.join(places)} need {entries} Gauss-Newton products, one for each entry, and num_matvecs={num_matvecs}: "
            f"allow for more, or name the heads of fewer weights"
        )
        raise ArgumentError(msg)
    return CurvatureBlocks(blocks_of_columns(oracle, places), "exact (columns)", rounding)


def _outputs(oracle: CurvatureOracle) -> int | None:
    """Number of outputs of an example, if examples can be taken one by one and these are not too many."""
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None or capability(oracle, SubsetOracle) is None:
        return None
    return able.outputs_per_example if able.outputs_per_example <= MOST_OUTPUTS else None
