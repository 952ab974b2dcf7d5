"""The user's data as tensors on the model's device, the same set of examples on every pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from invariant_sharpness.adapters import data
from invariant_sharpness.adapters.data import Batches, batch_size, is_per_example, leaves
from invariant_sharpness_torch.forward import to_device
from invariant_sharpness_torch.safeguard import random_state

Dataset = data.Dataset[Any]
"""Batches of tensors, in the form that the user gave them."""


def checked_dataset(batches: Batches, like: torch.Tensor) -> Dataset:
    """A data set that is known not to change, with tensors on the device of ``like``."""
    fixed_state = partial(random_state, generators=loader_generators(batches.source))
    return data.checked_dataset(batches, partial(to_device, like=like), _rows, fixed_state)


def loader_generators(source: Any) -> Sequence[torch.Generator]:
    """The random generators that belong to a data loader."""
    batch_sampler = getattr(source, "batch_sampler", None)
    owners = (source, getattr(source, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def _rows(batch: Any) -> list[npt.NDArray[np.uint8]]:
    """The bytes of every example: NumPy does not know all of torch's dtypes."""
    size = batch_size(batch)
    tensors = [leaf for leaf in leaves(batch) if isinstance(leaf, torch.Tensor) and is_per_example(leaf, size)]
    return [tensor.detach().cpu().contiguous().reshape(size, -1).view(torch.uint8).numpy() for tensor in tensors]
