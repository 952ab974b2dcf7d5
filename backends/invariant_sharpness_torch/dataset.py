"""The user's data as tensors on the model's device, the same set of examples on every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from invariant_sharpness.data import Batches, fingerprint, leaves
from invariant_sharpness.errors import DataError
from invariant_sharpness_torch.forward import batch_size, to_device
from invariant_sharpness_torch.safeguard import random_state


@dataclass(frozen=True, slots=True)
class Dataset:
    """Batches of tensors.

    Parameters
    ----------
    batches
        The user's data.
    like
        A parameter: tensors go to its device, and floating-point ones take its dtype.
    print
        Fingerprint of the set of examples, checked on every pass; None for data that lie in memory.
    """

    batches: Batches
    like: torch.Tensor
    print: int | None = None

    def __iter__(self) -> Iterator[Any]:
        seen = 0
        for batch in self.batches:
            moved = to_device(batch, self.like)
            if self.print is not None:
                seen += _batch_print(moved)
            yield moved
        if self.print is not None and seen % 2**64 != self.print:
            raise DataError(_CHANGED)


def checked_dataset(batches: Batches, like: torch.Tensor) -> Dataset:
    """A data set that is known not to change: a loader is read twice, with different random states.

    Raises
    ------
    DataError
        If the two passes have different examples, or there are none.
    """
    if batches.static:
        return Dataset(batches, like)
    prints = []
    for seed in (1, 2):
        with random_state(seed, loader_generators(batches.source)):
            prints.append(sum(_batch_print(to_device(batch, like)) for batch in batches) % 2**64)
    if prints[0] != prints[1]:
        raise DataError(_CHANGED)
    return Dataset(batches, like, prints[0])


def loader_generators(source: Any) -> Sequence[torch.Generator]:
    """The random generators that belong to a data loader."""
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = (source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


_CHANGED = (
    "the data change from pass to pass, so there is no one loss to measure: switch off random augmentation, and "
    "shuffle=True together with drop_last=True (shuffling alone does no harm)"
)


def _batch_print(batch: Any) -> int:
    size = batch_size(batch)
    rows = [leaf for leaf in leaves(batch) if isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == size]
    return fingerprint([_host(row) for row in rows]) if size else 0


def _host(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    flat = tensor.detach().cpu().contiguous().reshape(tensor.shape[0], -1)
    return np.asarray(flat.view(torch.uint8).numpy())
