"""Arrays that lie on the devices of several processes, and the processes themselves: all run the same programs on the same arrays."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import PASS_SEED, Batches, fingerprint, leaves
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.errors import DataError
from invariant_sharpness.runtime.processes import everywhere


class JaxProcesses:
    """The processes of ``jax.distributed``. Each has some devices of all arrays, and computes the same."""

    def __init__(self) -> None:
        self.rank = jax.process_index()
        self.size = jax.process_count()

    def gather(self, told: Any, /) -> list[Any]:
        """Return what each process tells, in the order of their ranks."""
        own = np.frombuffer(pickle.dumps(told), dtype=np.uint8)
        sizes = _from_all(np.array([len(own)], dtype=np.int32)).ravel()
        padded = np.zeros(int(sizes.max()), dtype=np.uint8)
        padded[: len(own)] = own
        rows = _from_all(padded)
        return [
            pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)
        ]  # sent by this function


def _from_all(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def spans_processes(array: Any) -> bool:
    """Whether some devices of an array belong to other processes."""
    return isinstance(array, jax.Array) and not array.is_fully_addressable


def addressable(array: Any) -> Any:
    """Return all of an array in a form that this process can read; all processes have to ask for it if it spans them."""
    if not spans_processes(array):
        return array
    if array.is_fully_replicated:
        return array.addressable_data(0)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(array, tiled=True)


def placed(values: npt.NDArray[Any], like: jax.Array) -> jax.Array:
    """Return host values, the same in all processes, where an array lies; where JAX may choose, it goes on choosing, such as the devices of the data."""
    if spans_processes(like):
        return jax.make_array_from_callback(values.shape, like.sharding, lambda index: values[index])
    return jax.device_put(values, like.sharding if like.committed else None)


def computing_together(engine: Engine[Any], arrays: Iterable[Any], batches: Batches) -> JaxProcesses | None:
    """Return the processes on whose devices parameters or data lie; None if they are all this one's own.

    Raises
    ------
    DataError
        If the data do not span these processes, and are not the same in all of them: JAX would take those of each for a copy of one array.
    """
    if jax.process_count() == 1:
        return None
    with engine.random_state(PASS_SEED, batches.source):
        if not any(map(spans_processes, [*arrays, *leaves(next(iter(batches), ()))])):
            return None
    processes = JaxProcesses()
    if len(set(everywhere(processes, lambda: _local_examples(engine, batches)))) > 1:
        msg = (
            "the parameters lie on the devices of several processes, but each process has other data: make global arrays of them, by "
            "jax.make_array_from_process_local_data(sharding, x) for inputs and targets, or pass all data in every process"
        )
        raise DataError(msg)
    return processes


def _local_examples(engine: Engine[Any], batches: Batches) -> int:
    """A fingerprint of the batches that lie on this process's own devices."""
    with engine.random_state(PASS_SEED, batches.source):
        found = [batch for batch in batches if not any(map(spans_processes, leaves(batch)))]
    return sum(fingerprint(engine.host_rows(engine.batch(batch))) for batch in found) % 2**64
