"""What engines share: defaults, and all bookkeeping of those whose arrays are NumPy's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Batch, batch_size, infinite_derivative, random_state, split_batch
from invariant_sharpness.adapters.engine import Arrays
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup


def blocks_and_rest(count: int, block: int) -> list[slice]:
    """Cut so many vectors into whole blocks, and the rest one by one: two programs are made for any number of them."""
    whole = count - count % block
    return [slice(n, n + block) for n in range(0, whole, block)] + [slice(n, n + 1) for n in range(whole, count)]


class EngineDefaults:
    """What most engines share: vectors are the engine's own tensors, and batches are computed whole."""

    fixed_shapes = False
    traced = False
    reduction: Literal["mean", "sum"] = "mean"
    loss_description = ""

    def native(self, arrays: Arrays, /) -> Arrays:
        return arrays

    def portable(self, arrays: Arrays, /) -> Arrays:
        return arrays

    def inspected(self, tree: Any, /) -> Any:
        return tree

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        return random_state(seed)

    def examples_at_once(self, batch: Any, /) -> int:
        return batch_size(batch)

    def infinite_derivative(self, name: str, /) -> NonFiniteError:
        return infinite_derivative(name)


class HostEngine(EngineDefaults):
    """An engine whose vectors and sums are NumPy arrays in float64; a subclass adds ``parameters``, ``check_loss`` and ``at``.

    Parameters
    ----------
    groups
        The parameters that are measured.
    """

    xp = xp
    eps = float(np.finfo(np.float64).eps)

    def __init__(self, groups: tuple[ParameterGroup, ...]) -> None:
        self.groups = groups

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {group.name: np.array(arrays[group.name], dtype=np.float64) for group in self.groups}

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}

    def batch(self, given: Any, /) -> Batch:
        return split_batch(given)

    def host_rows(self, batch: Batch, /) -> Sequence[npt.NDArray[Any]]:
        return [np.asarray(batch.inputs), np.asarray(batch.targets)]

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return {name: array + part[name] for name, array in total.items()}

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return {name: array / weight for name, array in total.items()}

    def finite(self, arrays: Arrays, /) -> npt.NDArray[np.bool_]:
        return np.array([np.isfinite(array).all() for array in arrays.values()])

    def read(self, tree: Any, /) -> Any:
        if isinstance(tree, (list, tuple)):
            return type(tree)(self.read(part) for part in tree)
        return np.asarray(tree, dtype=np.float64) if np.ndim(tree) else float(tree)
