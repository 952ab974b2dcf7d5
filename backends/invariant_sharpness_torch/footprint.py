"""How much memory an example takes: batches are computed in pieces whose activations fit into memory that is used again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_torch.batches import Evaluate

_GRAPHS = 4
"""Second derivatives hold about so many times what the loss alone does."""

_LINEARIZED = 2
"""A gradient that is linearized and held keeps so many times what the loss alone does: 1.9 to 2.5 times on ResNet-50, ViT-B/16 and GPT-2."""

_LARGEST_REUSED = 2**24
"""Bytes of the largest activation on a CPU. The C library gives blocks of more than 32 MiB back to the system, which has to
fill them with zeros whenever they are asked for anew: that takes longer than a convolution."""

_LOOKED_AT = 4
"""Examples for which the model runs once more, to see what it saves."""


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

    def linearizations(self) -> int:
        """Return how many examples' linearized gradients half of the memory limit holds, as vectors get the other half; none where nothing is known."""
        return chunks_within_limit(2 * _LINEARIZED * self.total) if self.total else 0

    def examples(self) -> int:
        """Return how many examples are computed at once; at least one."""
        return min(chunks_within_limit(_GRAPHS * self.total), max(1, _LARGEST_REUSED // max(1, self.largest)))


def footprint(model: nn.Module, evaluate: Evaluate, batch: Any) -> Footprint:
    """Look at what is saved for the backward pass of a few examples, beside the parameters.

    A model that uses torch.func refuses to be looked at, and is computed batch by batch.
    """
    fixed = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    few = take(batch, 0, _LOOKED_AT)
    saved: dict[int, torch.Tensor] = {}

    def look(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in fixed:
            saved[tensor.data_ptr()] = tensor
        return tensor

    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
            evaluate(few)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return Footprint(0, 0)
    sizes = [tensor.nbytes // batch_size(few) for tensor in saved.values()]
    on_host = next(model.parameters()).device.type == "cpu"
    return Footprint(sum(sizes), max(sizes, default=0) if on_host else 0)
