r"""Functions entry by entry of a layer's own outputs: their part of the diagonal, :math:`\sum_k m_k (A^T e_k)^2`, needs no signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from invariant_sharpness_torch.autograd_uses import VIEWS, View
from invariant_sharpness_torch.graph_nodes import ELEMENTWISE, Curved, argument_edge
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.passed_layers import ModuleLayer, PassedLayer


class OwnFunction(NamedTuple):
    """A function of all outputs of a layer, entry by entry.

    Parameters
    ----------
    module, inputs
        The layer.
    views
        From the function's argument down to the outputs.
    """

    module: nn.Linear | nn.Conv2d
    inputs: torch.Tensor
    views: tuple[View, ...]

    def at_outputs(self, values: torch.Tensor) -> torch.Tensor:
        """Return what values of the function's argument are at the layer's outputs by this way alone."""
        for view in self.views:
            values = view.put_back(values)
        return values

    def diagonal(self, curvature: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return what the function's second derivatives add to the diagonal: their derivative in the layer with the squares of its inputs."""
        curved, squares = held(self.at_outputs(curvature)), held(self.inputs).square()
        if isinstance(self.module, nn.Linear):
            rows = curved.flatten(0, -2)
            return {"weight": rows.T @ squares.flatten(0, -2), "bias": rows.sum(dim=0)}
        kernel = squares.new_zeros(self.module.weight.shape).requires_grad_()
        with torch.enable_grad():
            (weight,) = torch.autograd.grad(self.module._conv_forward(squares, kernel, None), kernel, curved)
        return {"weight": weight, "bias": curved.sum(dim=(0, 2, 3))}


def own_function(curved: Curved, layer: PassedLayer) -> OwnFunction | None:
    """Return the operation as a function of the layer's own outputs; None if it is not one, or the layer is of another kind."""
    if curved.node.name() not in ELEMENTWISE or not isinstance(layer, ModuleLayer):
        return None
    module, edge, views = layer.module, curved.edges[0], list[View]()
    if not (type(module) is nn.Linear or type(module) is nn.Conv2d):
        return None
    while (edge.node, edge.output_nr) != (layer.output.node, layer.output.output_nr):
        if edge.node.name() not in VIEWS:
            return None
        views.append(View(edge.node, edge.output_nr))
        edge = argument_edge(edge.node, 0)
    return OwnFunction(module, layer.inputs, tuple(views))
