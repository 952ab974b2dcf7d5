"""A layer in one forward pass: what squares of its parameters are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from invariant_sharpness_torch.layer_rules import Accumulator
from invariant_sharpness_torch.recording import Record
from invariant_sharpness_torch.trusted_layers import Layer

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.PReLU,
)
"""Layers whose output units are on the axis after the examples; of all others they are on the last ones."""


class PassedLayer(Protocol):
    """A layer that every example passes once, with outputs that are affine in its own parameters."""

    @property
    def owned(self) -> Mapping[str, str]:
        """What the layer calls its parameters, and their names in the model."""
        ...

    @property
    def output(self) -> GradientEdge:
        """Where its outputs are in the graph."""
        ...

    def accumulator(self, attributes: frozenset[str]) -> Accumulator:
        """Return what makes squares of these parameters from cotangents of the outputs."""
        ...

    def outputs(self) -> torch.Tensor:
        """Return the outputs without their graph, or what the parameters contribute to them."""
        ...

    def by_unit(self, outputs: torch.Tensor, /) -> torch.Tensor:
        """Arrange what has the shape of the outputs as (examples, positions, output units)."""
        ...

    def in_layout(self, by_unit: torch.Tensor, /) -> torch.Tensor:
        """Undo ``by_unit``."""
        ...


class ModuleLayer:
    """A module whose rule is trusted, with what it took and gave."""

    def __init__(self, layer: Layer, record: Record) -> None:
        self.owned = layer.owned
        self.output = get_gradient_edge(record.outputs[0])
        self._outputs = record.outputs[0].detach()
        self.module = layer.module
        self.inputs = record.inputs[0].detach()
        self._rule = layer.rule

    def accumulator(self, attributes: frozenset[str]) -> Accumulator:
        return self._rule(self.module, self.inputs, attributes)

    def outputs(self) -> torch.Tensor:
        return self._outputs

    def by_unit(self, outputs: torch.Tensor, /) -> torch.Tensor:
        if isinstance(self.module, _CHANNELS_FIRST):
            return outputs.flatten(2).mT if outputs.ndim > 2 else outputs[:, None]
        return outputs.reshape(len(outputs), -1, self._width)

    def in_layout(self, by_unit: torch.Tensor, /) -> torch.Tensor:
        first = isinstance(self.module, _CHANNELS_FIRST)
        return (by_unit.mT if first else by_unit).reshape(self._outputs.shape)

    @property
    def _width(self) -> int:
        """How many of the last entries of an example are output units: all that a normalization has gains for."""
        shape = getattr(self.module, "normalized_shape", self._outputs.shape[-1:])
        return int(torch.Size(shape).numel())
