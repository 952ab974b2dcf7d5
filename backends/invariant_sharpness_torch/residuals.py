r"""The diagonal of the residual part R of the Hessian, layer by layer and example by example.

R is the Hessian of :math:`\sum_n \langle c_n, f(x_n) \rangle` with constant cotangents. Its derivatives :math:`\delta_n` in the outputs of layers are made once for all of them, with their
graph; what a perturbation u of a layer's outputs makes of them, :math:`K_n u`, then is one backward pass through what lies above that layer.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from invariant_sharpness.adapters.engine import Sums
from invariant_sharpness.adapters.layers import HostArray, LayerMoments, Perturbations
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.prng import layer_number
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.layer_rules import Accumulator
from invariant_sharpness_torch.passed_layers import PassedLayer
from invariant_sharpness_torch.products import output_cotangents, second_derivative
from invariant_sharpness_torch.recording import layer_cotangents
from invariant_sharpness_torch.squares import ExampleSquares, Opened


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
        opened = OpenedCotangents(
            self._squares.opened(evaluate, batch, frozenset(group.name for group in self._groups)), loss
        )
        squares: dict[str, list[torch.Tensor]] = defaultdict(list)
        outputs: dict[str, int] = defaultdict(int)
        for layer, delta in zip(opened.layers, opened.deltas(), strict=True):
            both = [layer.by_unit(held(tensor)) for tensor in (layer.outputs(), delta)]
            moments = torch.stack([(one * one).sum(dim=(0, 1)) for one in both])
            for name in set(layer.owned.values()):
                squares[name].append(moments)
                outputs[name] += both[0][0].numel()
        return LayerMoments({name: torch.cat(parts, dim=1) for name, parts in squares.items()}, dict(outputs))

    def sums(self, evaluate: Evaluate, loss: LossTerms, perturbations: Perturbations, batch: Any) -> Sums:
        """Sum the products of what perturbations of a layer's outputs, and their images under K, make of the layer's parameters."""
        opened = OpenedCotangents(self._squares.opened(evaluate, batch, frozenset(perturbations.units)), loss)
        totals: dict[str, torch.Tensor] = {}
        passed: dict[str, int] = defaultdict(int)
        for layer, delta in zip(opened.layers, opened.deltas(create_graph=True), strict=True):
            wanted = {a: name for a, name in layer.owned.items() if name in perturbations.units}
            accumulator, first = layer.accumulator(frozenset(wanted)), next(iter(wanted.values()))
            # a group that enters several layers has the units of all of them
            width = layer.by_unit(delta).shape[-1]
            scale = perturbations.units[first].scale[passed[first] : passed[first] + width]
            self._add(accumulator, layer, delta, scale, perturbations)
            for name in set(wanted.values()):
                passed[name] += width
            for attribute, total in accumulator.totals().items():
                name = wanted[attribute]
                totals[name] = totals[name] + total if name in totals else total
        return Sums(opened.weight, opened.rows, (totals,))

    def _add(
        self,
        accumulator: Accumulator,
        layer: PassedLayer,
        delta: torch.Tensor,
        scale: HostArray,
        perturbations: Perturbations,
    ) -> None:
        shape = layer.by_unit(delta).shape
        factors, ones = torch.as_tensor(scale).to(delta), torch.ones(shape[0]).to(held(delta.detach()))
        for drawn in perturbations.of_layer(layer_number(self._groups, layer.owned.values()), *shape):
            signs = torch.as_tensor(drawn).to(delta.device, delta.dtype)
            along, left = layer.in_layout(signs * factors), layer.in_layout(signs / factors)
            accumulator.add(ones, held(left), held(_derivative(delta, along, layer.output)))


class OpenedCotangents:
    """A batch in the model, with the cotangents of its outputs."""

    def __init__(self, opened: Opened, loss: LossTerms) -> None:
        self.layers = opened.layers
        self.outputs = opened.outputs
        self.cotangents, weights = output_cotangents(opened.outputs, opened.targets, loss)
        self.weight, self.rows = weights.sum(), len(weights)

    def deltas(self, *, create_graph: bool = False) -> list[torch.Tensor]:
        """The derivatives of the outputs along their cotangents, in the outputs of the layers: one backward pass."""
        if not self.outputs.requires_grad:
            return [torch.zeros_like(layer.outputs()) for layer in self.layers]
        targets = [layer.output for layer in self.layers]
        return layer_cotangents(self.outputs, targets, self.cotangents, create_graph=create_graph)


def _derivative(delta: torch.Tensor, along: torch.Tensor, output: GradientEdge) -> torch.Tensor:
    if not delta.requires_grad:
        return torch.zeros_like(delta)
    with second_derivative():
        (product,) = torch.autograd.grad(delta, [output], along, retain_graph=True, allow_unused=True)
    return torch.zeros_like(delta) if product is None else product
