"""Batches cut into pieces whose activations fit into memory that can be used again and again.

Every example has a loss of its own, so that a sum over the pieces is the sum over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_torch.forward import Forward

_GRAPHS = 4
"""Second derivatives hold about so many times what the loss alone does."""

_LARGEST_REUSED = 2**24
"""Bytes of the largest activation on a CPU. The C library gives blocks of more than 32 MiB back to the system, which has to
fill them with zeros whenever they are asked for anew: that takes longer than a convolution."""

_LOOKED_AT = 4


class Piece(NamedTuple):
    """Some examples of the batch with this number; the first is example ``start`` of the batch."""

    batch: Any
    number: int
    start: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that automatic differentiation holds for an example.

    Parameters
    ----------
    total
        In all activations.
    largest
        In the largest of them, if malloc gives its memory back; zero on other devices.
    """

    total: int
    largest: int

    def pieces(self, batches: Iterable[Any]) -> Iterator[Piece]:
        """Every batch, in as few pieces as the memory limit allows for."""
        size = self.examples()
        for number, batch in enumerate(batches):
            for start in range(0, batch_size(batch), size):
                yield Piece(take(batch, start, start + size), number, start)

    def examples(self) -> int:
        """How many examples are computed at once; at least one."""
        return min(chunks_within_limit(_GRAPHS * self.total), max(1, _LARGEST_REUSED // max(1, self.largest)))


def footprint(model: nn.Module, forward: Forward, batch: Any) -> Footprint:
    """Look at what is saved for the backward pass of a few examples, beside the parameters."""
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    few = take(batch, 0, _LOOKED_AT)
    saved: dict[int, torch.Tensor] = {}

    def look(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in fixed:
            saved[tensor.data_ptr()] = tensor
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        forward(model, few)
    sizes = [tensor.nbytes // batch_size(few) for tensor in saved.values()]
    on_host = next(model.parameters()).device.type == "cpu"
    return Footprint(sum(sizes), max(sizes, default=0) if on_host else 0)
