"""What goes into and comes out of layers in a forward pass, and what comes back to them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge


@dataclass(slots=True)
class Record:
    """Inputs and outputs of a layer in one forward pass."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)

    def is_plain(self, examples: int) -> bool:
        """Whether the layer ran once, on one tensor with a row per example, and its output is differentiated."""
        return (
            len(self.inputs) == len(self.outputs) == 1
            and len(self.inputs[0]) == len(self.outputs[0]) == examples
            and self.outputs[0].requires_grad
        )


@contextmanager
def recording(modules: Sequence[nn.Module]) -> Generator[list[Record]]:
    """Record inputs and outputs of the modules while the block runs.

    The model goes on with a copy of each output, since the next layer may change it in place.
    """
    records = [Record() for _ in modules]
    handles = []
    try:
        for module, record in zip(modules, records, strict=True):
            handles.append(module.register_forward_hook(_recorder(record), with_kwargs=True))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _recorder(record: Record) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        record.inputs.extend([*inputs, *keywords.values()])
        record.outputs.append(output)
        return output.clone()

    return hook


def layer_cotangents(
    outputs: torch.Tensor,
    targets: Sequence[GradientEdge],
    cotangent: torch.Tensor,
    *,
    create_graph: bool = False,
) -> list[torch.Tensor]:
    """What cotangents of the outputs become at the outputs of layers: one backward pass."""
    if not targets:
        return []
    found = torch.autograd.grad(
        outputs, targets, cotangent, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return [_zeros(target) if delta is None else delta for target, delta in zip(targets, found, strict=True)]


def _zeros(target: GradientEdge) -> torch.Tensor:
    form = target.node._input_metadata[target.output_nr]
    return torch.zeros(form.shape, dtype=form.dtype, device=form.device)


def parameter_gradients(
    outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter], cotangent: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """What they become at the parameters; zero for parameters that the outputs do not depend on."""
    if not outputs.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters.values())
    return torch.autograd.grad(
        outputs, list(parameters.values()), cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
    )
