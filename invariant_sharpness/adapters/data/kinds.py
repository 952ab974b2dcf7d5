"""What can be an array of a batch: dense, and of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invariant_sharpness.adapters.data.examples import leaves
from invariant_sharpness.errors import DataError

_NUMBERS = "biufc"
_CLASSES = "number the classes from 0, as in np.unique(labels, return_inverse=True)[1]"


def require_arrays(batch: Any) -> None:
    """Raise unless every array of a nest is dense and holds numbers; what has no shape is left alone.

    Raises
    ------
    DataError
        Names the type of what is none, and how it becomes one.
    """
    for leaf in leaves(batch):
        advice = _to_dense(leaf)
        if advice is not None:
            msg = f"a batch holds a {type(leaf).__name__} that is not dense: {advice}"
            raise DataError(msg)
        if not _holds_numbers(getattr(leaf, "dtype", None)):
            msg = (
                f"a batch holds a {type(leaf).__name__} of dtype {leaf.dtype}: leave out what is not an array of real numbers, and "
                f"{_CLASSES}"
            )
            raise DataError(msg)


def require_array_of_targets(pair: Any) -> None:
    """Raise if a pair has an array of inputs, and targets that are no array but could be made one.

    Raises
    ------
    DataError
        Says of what type the targets are, and how they become an array.
    """
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and hasattr(pair[0], "shape")):
        return
    targets = pair[1]
    if targets is None:
        msg = "there are no targets: the data are (inputs, None), but the loss compares outputs with targets"
        raise DataError(msg)
    first = targets[0] if isinstance(targets, (tuple, list)) and targets else targets
    shape = getattr(first, "shape", None)
    is_array = shape is not None and (first is targets or shape)
    if not (is_array or isinstance(first, (tuple, list, Mapping))):
        of_what = f" of {type(first).__name__}" if first is not targets else ""
        msg = (
            f"the targets are a {type(targets).__name__}{of_what} instead of an array: convert numbers by np.asarray(targets), and "
            f"of names {_CLASSES}"
        )
        raise DataError(msg)


def _holds_numbers(dtype: Any) -> bool:
    """Whether arrays of this type hold numbers; a framework's own types do. To NumPy, bfloat16 is of no kind of its own."""
    kind = getattr(dtype, "kind", "f")
    return not isinstance(kind, str) or kind in _NUMBERS or (kind == "V" and "float" in dtype.name)


def _to_dense(leaf: Any) -> str | None:
    """How a sparse or nested array becomes dense; None if it is dense."""
    if getattr(leaf, "is_nested", False) is True:
        return "pad the examples to one length, and mask what was added"
    if hasattr(leaf, "to_dense") and str(getattr(leaf, "layout", "torch.strided")) != "torch.strided":
        return "take to_dense()"
    if hasattr(leaf, "toarray") or hasattr(leaf, "todense"):
        return f"take {'toarray' if hasattr(leaf, 'toarray') else 'todense'}()"
    if type(leaf).__name__ in ("SparseTensor", "RaggedTensor", "IndexedSlices"):
        return "take tf.sparse.to_dense(...), or to_tensor() of a ragged tensor"
    return None
