"""A batch that is one example: contrastive losses, graphs, batch normalization with the statistics of the batch.

Every array of the data gets an axis of length one before all others, which counts examples; model and loss see the batch without it.
So all sums over examples, and the squares of their derivatives, are those of whole batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

from invariant_sharpness.adapters.data import Batches, as_batches, map_leaves
from invariant_sharpness.errors import DataError

Examples = Literal["rows", "batches"]
"""What an example is: a row of a batch, or a whole batch."""


def batches_of(
    data: Any, batch_size: int, microbatch: int | None, examples: Examples, max_examples: int | None = None
) -> Batches:
    """Make batches of the user's data, in which an example is what ``examples`` says.

    Raises
    ------
    DataError
        If there is no such kind of examples, a whole batch would have to be cut, or the data are none.
    """
    if examples not in get_args(Examples):
        msg = f'examples={examples!r}, but an example is a row of a batch, "rows", or a whole batch, "batches"'
        raise DataError(msg)
    batches = as_batches(data, batch_size, microbatch, max_examples)
    if examples == "rows":
        return batches
    if microbatch is not None:
        msg = (
            f'microbatch={microbatch} would cut batches, but with examples="batches" each is one example: leave microbatch '
            f"out, and make smaller batches if one does not fit into memory"
        )
        raise DataError(msg)
    return replace(batches, form=as_example)


def as_example(batch: Any) -> Any:
    """The batch as one example: its arrays with an axis of length one before all others."""
    return map_leaves(lambda leaf: leaf[None] if hasattr(leaf, "shape") else leaf, batch)


def of_example(example: Any) -> Any:
    """The batch again."""
    return map_leaves(lambda leaf: leaf[0] if hasattr(leaf, "shape") else leaf, example)
