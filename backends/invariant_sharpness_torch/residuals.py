r"""The diagonal of the residual part R of the Hessian, layer by layer and example by example.

R is the Hessian of :math:`\sum_n \langle c_n, f(x_n) \rangle` with constant cotangents. Its derivatives :math:`\delta_n` in the outputs of layers are made once for all of them, with their
graph; what a perturbation u of a layer's outputs makes of them, :math:`K_n u`, then is one backward pass through what lies above that layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size
from invariant_sharpness.adapters.engine import Sums
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.prng import layer_number
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.layer_rules import Accumulator
from invariant_sharpness_torch.products import gradients, second_derivative
from invariant_sharpness_torch.recording import Record, recording
from invariant_sharpness_torch.squares import ExampleSquares
from invariant_sharpness_torch.trusted_layers import Layer

_CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.PReLU,
)
"""Layers whose output units are on the axis after the examples; of all others they are on the last ones."""


class LayerResiduals:
    """What the residual part is made of, at the layers of one model.

    Parameters
    ----------
    groups
        The parameters that are measured.
    squares
        The squares of the same model, whose layers have been tested.
    """

    def __init__(self, groups: tuple[ParameterGroup, ...], squares: ExampleSquares) -> None:
        self._groups = groups
        self._squares = squares

    def moments(self, evaluate: Evaluate, loss: LossTerms, batch: Any) -> LayerMoments:
        """Sum the squares of the outputs of the layers, and of their cotangents, unit by unit."""
        opened = _Opened(self._squares.layers(evaluate, batch), evaluate, loss, batch)
        squares: dict[str, torch.Tensor] = {}
        outputs: dict[str, int] = {}
        for layer, record, delta in zip(opened.layers, opened.records, opened.deltas(), strict=True):
            both = [_by_unit(layer.module, held(t.detach())) for t in (record.outputs[0], delta)]
            for name in layer.owned.values():
                squares[name] = torch.stack([(one * one).sum(dim=(0, 1)) for one in both])
                outputs[name] = both[0][0].numel()
        return LayerMoments(squares, outputs)

    def sums(self, evaluate: Evaluate, loss: LossTerms, perturbations: Perturbations, batch: Any) -> Sums:
        """Sum the products of what perturbations of a layer's outputs, and their images under K, make of the layer's parameters."""
        layers = self._squares.layers(evaluate, batch)
        wanted = [layer for layer in layers if perturbations.units.keys() & set(layer.owned.values())]
        opened, totals = _Opened(wanted, evaluate, loss, batch), dict[str, torch.Tensor]()
        for layer, record, delta in zip(opened.layers, opened.records, opened.deltas(create_graph=True), strict=True):
            attributes = frozenset(a for a, name in layer.owned.items() if name in perturbations.units)
            accumulator = layer.rule(layer.module, record.inputs[0].detach(), attributes)
            self._add(accumulator, layer, record, delta, perturbations)
            totals |= {layer.owned[attribute]: total for attribute, total in accumulator.totals().items()}
        return Sums(opened.weight, opened.rows, (totals,))

    def _add(
        self, accumulator: Accumulator, layer: Layer, record: Record, delta: torch.Tensor, perturbations: Perturbations
    ) -> None:
        output = record.outputs[0]
        shape = _by_unit(layer.module, output).shape
        scale = next(perturbations.units[name].scale for name in layer.owned.values() if name in perturbations.units)
        factors, ones = torch.as_tensor(scale).to(output), torch.ones(shape[0]).to(held(output.detach()))
        for drawn in perturbations.of_layer(layer_number(self._groups, layer.owned.values()), *shape):
            signs = torch.as_tensor(drawn).to(output.device, output.dtype)
            along = _in_layout(layer.module, signs * factors, output)
            left = _in_layout(layer.module, signs / factors, output)
            accumulator.add(ones, held(left), held(_derivative(delta, along, output)))


class _Opened:
    """A batch in the model, with what the layers took and gave."""

    def __init__(self, layers: list[Layer], evaluate: Evaluate, loss: LossTerms, batch: Any) -> None:
        with recording([layer.module for layer in layers]) as records:
            self._outputs, targets = evaluate(batch)
        size = batch_size(batch)
        plain = [(layer, record) for layer, record in zip(layers, records, strict=True) if record.is_plain(size)]
        self.layers = [layer for layer, _ in plain]
        self.records = [record for _, record in plain]
        leaf = self._outputs.detach().requires_grad_()
        losses, weights = loss.values(leaf, targets)
        (self._cotangents,) = gradients((losses * weights).sum(), [leaf])
        self.weight, self.rows = weights.detach().sum(), len(weights)

    def deltas(self, *, create_graph: bool = False) -> list[torch.Tensor]:
        """The derivatives of the outputs along their cotangents, in the outputs of the layers: one backward pass."""
        if not self.records:
            return []
        value = (self._outputs * self._cotangents.detach()).sum()
        return gradients(value, [record.outputs[0] for record in self.records], create_graph=create_graph)


def _derivative(delta: torch.Tensor, along: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    if not delta.requires_grad:
        return torch.zeros_like(output)
    with second_derivative():
        (product,) = torch.autograd.grad(
            delta, output, along, retain_graph=True, allow_unused=True, materialize_grads=True
        )
    return product


def _by_unit(module: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """The outputs of a layer in the shape (examples, positions, output units)."""
    if isinstance(module, _CHANNELS_FIRST):
        return tensor.flatten(2).mT if tensor.ndim > 2 else tensor[:, None]
    return tensor.reshape(len(tensor), -1, _width(module, tensor))


def _in_layout(module: nn.Module, units: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Undo ``_by_unit``."""
    return (units.mT if isinstance(module, _CHANNELS_FIRST) else units).reshape(output.shape)


def _width(module: nn.Module, tensor: torch.Tensor) -> int:
    """How many of the last entries of an example are output units: all that a normalization has gains for."""
    shape = getattr(module, "normalized_shape", tensor.shape[-1:])
    return int(torch.Size(shape).numel())
