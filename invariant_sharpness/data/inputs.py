"""What a batch has to be before a model sees it: not empty, and finite."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

from invariant_sharpness.data.examples import batch_size
from invariant_sharpness.data.failures import in_batch
from invariant_sharpness.data.trees import Leaf, leaves
from invariant_sharpness.errors import DataError, NonFiniteError


def check_inputs(batch: Any, index: int) -> None:
    """Raise if there is no example, or an entry is NaN or infinite.

    Raises
    ------
    DataError, NonFiniteError
        Say in which batch, array and example.
    """
    with in_batch(index):
        examples = batch_size(batch)
    if examples == 0:
        msg = f"batch {index} is empty: leave it out (look at the sampler that makes the batches)"
        raise DataError(msg)
    for position, leaf in enumerate(leaves(batch)):
        example = first_non_finite(leaf)
        if example is not None:
            msg = (
                f"array {position} of batch {index} (shape {tuple(leaf.shape)}) has NaN or infinite entries, "
                f"first in example {example}: clean the data"
            )
            raise NonFiniteError(msg)


def first_non_finite(leaf: Leaf) -> int | None:
    """The first row with an entry that is NaN or infinite; None if there is none, or the leaf holds no real numbers."""
    xp = _namespace(leaf)
    if xp is None or not xp.isdtype(leaf.dtype, "real floating"):
        return None
    finite = xp.isfinite(leaf)
    if bool(xp.all(finite)):
        return None
    rows = xp.reshape(finite, (leaf.shape[0] if leaf.ndim else 1, -1))
    return int(xp.argmin(xp.astype(xp.all(rows, axis=1), xp.int8)))


def _namespace(leaf: Leaf) -> Any:
    return array_namespace(leaf) if is_array_api_obj(leaf) else None
