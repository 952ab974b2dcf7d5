"""Arrays that are divided among processes: DTensors, each process with its own shard, and the functions of the array API that add them up.

What torch makes of a DTensor by a reduction is partial: converted to a number, each process has that of its own shard. So reductions are
completed here, in all processes, and give plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import array_api_compat.torch as compat
import numpy as np
import numpy.typing as npt
import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from invariant_sharpness_torch.half_precision import held_dtype
from invariant_sharpness_torch.processes import talking


class ShardedNamespace:
    """The array namespace of vectors whose arrays are DTensors, or plain tensors that are the same in all processes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(compat, name)

    def sum(self, x: torch.Tensor, /) -> torch.Tensor:
        return whole(torch.sum(x))

    def mean(self, x: torch.Tensor, /) -> torch.Tensor:
        return self.sum(x) / x.numel()

    def max(self, x: torch.Tensor, /) -> torch.Tensor:
        return whole(torch.max(x))

    def min(self, x: torch.Tensor, /) -> torch.Tensor:
        return whole(torch.min(x))

    def any(self, x: torch.Tensor, /) -> torch.Tensor:
        return self.sum((x != 0).to(torch.float64)) > 0

    def all(self, x: torch.Tensor, /) -> torch.Tensor:
        return self.sum((x == 0).to(torch.float64)) == 0

    def sign(self, x: torch.Tensor, /) -> torch.Tensor:
        return torch.sign(x)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor, the same in all processes, which all have to ask for it."""
    if not isinstance(tensor, DTensor):
        return tensor
    with talking():
        return tensor.full_tensor()


def own(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process has of a tensor, in its own storage."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def divided(values: npt.NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """Return an array of the host, which all processes have, divided as ``like`` is; nothing is sent."""
    kept = _own_part(values, like) if isinstance(like, DTensor) else values
    tensor = torch.as_tensor(np.array(kept), dtype=held_dtype(like.dtype), device=own(like).device)
    return as_divided(tensor, like)


def as_divided(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the tensor of which each process has this part."""
    if not isinstance(like, DTensor):
        return part
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _own_part(values: npt.NDArray[Any], like: DTensor) -> npt.NDArray[Any]:
    shape, start = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    return values[tuple(slice(first, first + length) for first, length in zip(start, shape, strict=True))]


def placed(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor divided as ``like`` is, which may be partial: its parts are added then."""
    if isinstance(tensor, DTensor) and isinstance(like, DTensor) and tensor.placements != like.placements:
        return tensor.redistribute(placements=like.placements)
    return tensor


def on_every_process(tensors: Mapping[str, torch.Tensor]) -> dict[str, npt.NDArray[np.float64]]:
    """Return all of each tensor on the host, one after the other."""
    return {
        name: whole(tensor.detach()).to("cpu", torch.float64, copy=True).numpy() for name, tensor in tensors.items()
    }
