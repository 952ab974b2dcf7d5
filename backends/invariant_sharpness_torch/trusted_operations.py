"""Which operations of autograd's graph can be squared as layers: tested on the model itself, never assumed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from invariant_sharpness.adapters.data import batch_size
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.graph_layers import GraphLayer, Operation, Trust, operations
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.layouts import Layout
from invariant_sharpness_torch.recording import layer_cotangents, parameter_gradients
from invariant_sharpness_torch.trusted_layers import agreement, one_by_one

Deltas = Mapping[Operation, Sequence[torch.Tensor]]
"""The cotangents of an operation's outputs, for each example alone."""

Squares = dict[str, torch.Tensor]


def trusted_operations(
    evaluate: Evaluate, parameters: Mapping[str, nn.Parameter], head: Any, tolerance: float
) -> dict[str, Trust]:
    """Return the parameters whose operations keep the examples apart, and together give the square of each example's gradient.

    Cost: one forward pass, and two backward passes for each example of ``head``; the verdicts are read three times.
    """
    if not parameters:
        return {}
    outputs, _ = evaluate(head)
    found, size = _disjoint(operations(outputs, parameters)), batch_size(head)
    layouts, deltas = operations_apart(outputs, [operation for own in found.values() for operation in own], size)
    apart = {name: own for name, own in found.items() if all(operation in layouts for operation in own)}
    expected = squared_gradients(outputs, {name: parameters[name] for name in apart})
    layers = [GraphLayer(operation, layout, frozenset(apart)) for operation, layout in layouts.items()]
    right = _agreeing(layers, _squares(layers, deltas, expected), expected, tolerance)
    return {name: trust_in(name, apart[name], layouts, alone=size == 1) for name in apart if name in right}


def _disjoint(found: Mapping[str, list[Operation]]) -> dict[str, list[Operation]]:
    """Leave out parameters of which an entry enters two operations: few examples may show one of these alone."""
    uses = {
        name: [use for operation in own for use in operation.taken.values() if use.name == name]
        for name, own in found.items()
    }
    several = {name: of_name for name, of_name in uses.items() if len(of_name) > 1}
    # how often each entry enters
    counts = [reduce(add, (u.put_back(u.parameter.new_ones(u.shape)) for u in of_name)) for of_name in several.values()]
    most = [count.detach().max().to(counts[0].device) for count in counts]
    twice = {name for name, count in zip(several, torch.stack(most).tolist() if most else (), strict=True) if count > 1}
    return {name: own for name, own in found.items() if name not in twice}


def trust_in(name: str, own: Sequence[Operation], layouts: Mapping[Operation, Layout], *, alone: bool) -> Trust:
    """Return what has been tested of a parameter's operations."""
    places = tuple((layouts[operation].axis, layouts[operation].last) for operation in own)
    return Trust(tuple(operation.entered_by(name) for operation in own), places, alone)


def operations_apart(
    outputs: torch.Tensor, found: Sequence[Operation], examples: int
) -> tuple[dict[Operation, Layout], Deltas]:
    """Return where the examples are in each operation with room for them apart, and all cotangents."""
    distinct = list(dict.fromkeys(found))
    edges = [GradientEdge(operation.node, 0) for operation in distinct]
    placed, deltas = examples_apart(outputs, edges, [list(operation.layouts(examples)) for operation in distinct])
    known = {operation: layout for operation, layout in zip(distinct, placed, strict=True) if layout is not None}
    return known, dict(zip(distinct, deltas, strict=True))


def examples_apart(
    outputs: torch.Tensor, edges: Sequence[GradientEdge], candidates: Sequence[Sequence[Layout]]
) -> tuple[list[Layout | None], list[Sequence[torch.Tensor]]]:
    """Return for each place in the graph the first layout in which an example's cotangents belong to it alone, and all cotangents.

    Where some examples do not reach a place it has to be the only one.
    """
    by_example = [layer_cotangents(outputs, edges, alone) for alone in one_by_one(outputs)] if edges else []
    deltas: list[Sequence[torch.Tensor]] = list(zip(*by_example, strict=True))
    pairs = [(edge, layout) for edge, layouts in enumerate(candidates) for layout in layouts]
    flags = [torch.stack(_flags(layout, deltas[edge])).to(outputs.device) for edge, layout in pairs]
    verdicts: list[list[bool]] = torch.stack(flags).tolist() if flags else []
    possible: dict[int, list[Layout]] = defaultdict(list)
    reached: dict[int, bool] = {}
    for (edge, layout), (mixed, everywhere) in zip(pairs, verdicts, strict=True):
        reached[edge] = everywhere
        if not mixed:
            possible[edge].append(layout)
    known = {edge: places[0] for edge, places in possible.items() if len(places) == 1 or reached[edge]}
    return [known.get(edge) for edge in range(len(edges))], deltas


def _flags(layout: Layout, deltas: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether cotangents of an example reach outputs of others, and whether all examples reach any: flags, not read."""
    own = [layout.by_unit(delta) != 0 for delta in deltas]
    others = [torch.cat((delta[:example], delta[example + 1 :])).any() for example, delta in enumerate(own)]
    return torch.stack(others).any(), torch.stack([delta.any() for delta in own]).all()


def squared_gradients(outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter]) -> Squares:
    """Return the squares of the gradients of each example alone."""
    squares = {name: torch.zeros_like(held(p.detach())) for name, p in parameters.items()}
    for alone in one_by_one(outputs) if parameters else ():
        for name, gradient in zip(parameters, parameter_gradients(outputs, parameters, alone), strict=True):
            squares[name] += held(gradient).square()
    return squares


def _squares(layers: Sequence[GraphLayer], deltas: Deltas, expected: Squares) -> Squares:
    """Return what the operations make of the same cotangents."""
    squares = {name: torch.zeros_like(square) for name, square in expected.items()}
    for layer in layers:
        accumulator = layer.accumulator(frozenset(layer.owned))
        for delta in map(held, deltas[layer.operation]):
            accumulator.add(delta.new_ones(layer.examples), delta, delta)
        for attribute, total in accumulator.totals().items():
            squares[layer.owned[attribute]] += total
    return squares


def _agreeing(layers: Sequence[GraphLayer], found: Squares, expected: Squares, tolerance: float) -> set[str]:
    """Return the parameters whose squares are right, beside those that enter the same operations."""
    flags = [
        (name, flag)
        for layer in layers
        if layer.owned
        for name, flag in agreement(found, {n: expected[n] for n in layer.owned.values()}, tolerance).items()
    ]
    verdicts = torch.stack([flag.to(flags[0][1].device) for _, flag in flags]).tolist() if flags else []
    wrong = {name for (name, _), right in zip(flags, verdicts, strict=True) if not right}
    return found.keys() - wrong
