"""Squares of tied embeddings, which a table and the last product take: the gradients of an example are added before the square.

Trusted only after a test on the model, as the rules of layers are. Recurrent weights are left to the general path, which their biases take anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.graph_layers import GraphLayer, Operation, Trust, graph_layers, operations
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.trusted_layers import agreement
from invariant_sharpness_torch.trusted_operations import operations_apart, squared_gradients, trust_in


class SharedParameter:
    """A parameter in one forward pass.

    Parameters
    ----------
    name
        The parameter.
    layers
        The operations that take it.
    """

    def __init__(self, name: str, layers: Sequence[GraphLayer]) -> None:
        self.name = name
        self.outputs = [layer.output for layer in layers]
        self._layers = layers

    def add_squares(self, total: torch.Tensor, signs: torch.Tensor, deltas: Sequence[torch.Tensor]) -> None:
        """Add the squares of each example's gradient, which cotangents of all operations make together."""
        for example, sign in enumerate(signs):
            gradient = torch.zeros_like(total)
            for layer, delta in zip(self._layers, deltas, strict=True):
                layer.add_gradient(gradient, example, held(delta))
            total.add_(gradient.square_().mul_(sign))


def shared_parameters(
    outputs: torch.Tensor,
    parameters: Mapping[str, nn.Parameter],
    trusted: Mapping[str, Trust],
    names: frozenset[str],
    examples: int,
) -> list[SharedParameter]:
    """Return the named parameters of this forward pass that enter the operations that were tested; for the arguments see :func:`graph_layers`."""
    layers = graph_layers(outputs, parameters, trusted, names & trusted.keys(), examples)
    owners = {name for layer in layers for name in layer.owned.values()}
    return [
        SharedParameter(name, [layer for layer in layers if name in layer.owned.values()]) for name in sorted(owners)
    ]


def trusted_shared(
    evaluate: Evaluate, parameters: Mapping[str, nn.Parameter], names: AbstractSet[str], head: Any, tolerance: float
) -> dict[str, Trust]:
    """Return those named parameters whose operations keep the examples apart, and together give the square of each example's gradient.

    Cost: one forward pass, and two backward passes for each example of ``head`` if there are candidates.
    """
    if not names:
        return {}
    outputs, _ = evaluate(head)
    size = batch_size(head)
    found = {
        name: own for name, own in operations(outputs, parameters).items() if name in names and _is_tied(name, own)
    }
    layouts, deltas = operations_apart(outputs, [operation for own in found.values() for operation in own], size)
    apart = {name: own for name, own in found.items() if all(operation in layouts for operation in own)}
    expected = squared_gradients(outputs, {name: parameters[name] for name in apart})
    trusted = {}
    for name, own in apart.items():
        layers = [GraphLayer(operation, layouts[operation], frozenset({name})) for operation in own]
        total = torch.zeros_like(expected[name])
        for of_example in zip(*(deltas[operation] for operation in own), strict=True):
            SharedParameter(name, layers).add_squares(total, total.new_ones(size), of_example)
        if agreement({name: total}, {name: expected[name]}, tolerance)[name]:
            trusted[name] = trust_in(name, own, layouts, alone=size == 1)
    return trusted


def _is_tied(name: str, own: Sequence[Operation]) -> bool:
    """Whether a table is among the operations, and the gradients of all of them can be added."""
    return any(operation.is_table for operation in own) and all(operation.adds_gradient(name) for operation in own)
