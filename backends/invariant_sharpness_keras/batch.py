"""A batch, as users have it, as arrays on the host: inputs and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Batch, WeightedTargets, leaves, map_leaves, split_batch, weighted_pair
from invariant_sharpness.adapters.sample_weights import WEIGHTS_OF_ROWS
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import DataError

Array = npt.NDArray[Any]


def host_batch(batch: Any, dtype: np.dtype[Any], examples: Examples = "rows") -> Batch:
    """Return the batch as NumPy arrays; floating-point ones in ``dtype``. Those of a strategy's replicas are put together.

    Raises
    ------
    DataError
        If it is neither ``(inputs, targets)``, with or without weights, nor a dictionary with ``"labels"``, or the rows differ in
        number, or there are weights of rows where a batch is one example.
    """
    joined = map_leaves(_of_all_replicas, batch)
    host: Batch = map_leaves(lambda leaf: _host(leaf, dtype), split_batch(weighted_pair(joined)))
    if isinstance(host.targets, WeightedTargets):
        if examples == "batches":
            raise DataError(WEIGHTS_OF_ROWS)
        host = host._replace(targets=host.targets._replace(weights=host.targets.weights.astype(dtype)))
    sizes = {leaf.shape[:1] for leaf in leaves(host)}
    if () in sizes or len(sizes) != 1:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves(host))
        msg = f"inputs and targets need one row per example, the same number in all; their shapes are {shapes}"
        raise DataError(msg)
    return host


def host_rows(batch: Batch) -> list[Array]:
    """Return the arrays of numbers, for fingerprints."""
    return [leaf for leaf in leaves(batch) if leaf.dtype.kind in "biuf"]


def _of_all_replicas(leaf: Any) -> Any:
    """The examples of a batch of ``experimental_distribute_dataset``, which has a part for each replica of this process."""
    return np.concatenate([np.asarray(part) for part in leaf.values]) if type(leaf).__name__ == "PerReplica" else leaf


def _host(leaf: Any, dtype: np.dtype[Any]) -> Array:
    on_cpu = leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
    array = np.asarray(on_cpu)
    return array.astype(dtype) if array.dtype.kind == "f" else array
