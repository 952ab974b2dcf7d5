"""Blocks of the Gauss-Newton matrix, by the cheaper of two exact ways."""

from __future__ import annotations

from typing import NamedTuple

from invariant_sharpness.estimators.curvature_blocks.columns import blocks_of_columns
from invariant_sharpness.estimators.curvature_blocks.examples import blocks_of_examples
from invariant_sharpness.estimators.curvature_blocks.places import Blocks, Places, number_of_entries
from invariant_sharpness.estimators.diagonals.diagonal import MOST_OUTPUTS
from invariant_sharpness.precision import unit_of_rounding
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    SubsetOracle,
    require,
    supports,
)

_DOUBLE = 2.0**-52
"""Unit of rounding of the sums on the host."""


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


def gauss_newton_blocks(oracle: CurvatureOracle, places: Places, *, products: int, seed: int) -> CurvatureBlocks:
    """The blocks at these places, exactly.

    From the matrices of single examples, if the oracle can be restricted to them and they have few outputs, or else from
    one column for each entry.

    Parameters
    ----------
    places
        Which entries belong to a block.
    products
        At most so many products, each with the whole of the data.

    Raises
    ------
    ValueError
        If more products are needed; says how many.
    """
    outputs, entries, rounding = _outputs(oracle), number_of_entries(places), unit_of_rounding(oracle)
    if outputs is not None and 2 * outputs <= min(products, entries):
        able = require(oracle, SubsetOracle, metric="gauss_newton_blocks")
        blocks = blocks_of_examples(able, places, outputs, seed)
        if blocks is not None:
            return CurvatureBlocks(blocks, "exact (examples)", max(rounding**2, _DOUBLE))
    if entries > products:
        msg = (
            f"the blocks of {', '.join(places)} need {entries} Gauss-Newton products, one for each entry, and products={products}: "
            f"allow for more, or name the heads of fewer weights"
        )
        raise ValueError(msg)
    return CurvatureBlocks(blocks_of_columns(oracle, places), "exact (columns)", rounding)


def _outputs(oracle: CurvatureOracle) -> int | None:
    """Number of outputs of an example, if examples can be taken one by one and these are not too many."""
    if not (supports(oracle, SubsetOracle) and supports(oracle, GaussNewtonDiagonalOracle)):
        return None
    outputs = require(oracle, GaussNewtonDiagonalOracle, metric="gauss_newton_blocks").outputs_per_example
    return outputs if outputs <= MOST_OUTPUTS else None
