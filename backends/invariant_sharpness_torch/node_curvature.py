r"""The diagonal of the residual part R of the Hessian by curvature propagation: signs at the nonlinear operations above the layers.

:math:`R_{gg} = E_n \sum_u J_u^T M_u J_u` over the operations u above a layer, where :math:`J_u` is the derivative of the operation's argument in the layer's parameters, and
:math:`M_u` the operation's own second derivative along its cotangent. Two backward passes from the operation carry random factors of :math:`M_u` to all layers below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.adapters.engine import Sums
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.errors import ModelError
from invariant_sharpness.prng import Draws, node_signs
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.graph_nodes import Curved, above, edge_shape
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.layer_rules import Accumulator
from invariant_sharpness_torch.layouts import Layout, layouts
from invariant_sharpness_torch.node_factors import curvature, factors
from invariant_sharpness_torch.own_curvature import own_function
from invariant_sharpness_torch.passed_layers import PassedLayer
from invariant_sharpness_torch.recording import layer_cotangents
from invariant_sharpness_torch.residuals import OpenedCotangents
from invariant_sharpness_torch.squares import ExampleSquares
from invariant_sharpness_torch.trusted_layers import TEST_EXAMPLES
from invariant_sharpness_torch.trusted_operations import examples_apart


class NodeCurvature:
    """What curvature propagation adds to the Gauss-Newton diagonal of one model.

    Parameters
    ----------
    parameters
        Those that are measured, by name.
    squares
        The squares of the same model, whose layers have been tested.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], squares: ExampleSquares) -> None:
        self._parameters = parameters
        self._names = frozenset(parameters)
        self._squares = squares
        self._tested: dict[bool, _Tested] = {}

    def counts(self, evaluate: Evaluate, batch: Any) -> dict[str, int]:
        """Return how many nonlinear operations are above the layers of a parameter, for those with none that is unknown."""
        opened = self._squares.opened(evaluate, batch, self._names)
        nodes = self._nodes(evaluate, opened.outputs, opened.layers, batch)
        owners: dict[str, set[int]] = {}
        for number, layer in enumerate(opened.layers):
            for name in layer.owned.values():
                owners.setdefault(name, set()).add(number)
        return {
            name: sum(bool(numbers & node.curved.layers) for node in nodes.placed)
            for name, numbers in owners.items()
            if not numbers & nodes.unknown
        }

    def sums(self, evaluate: Evaluate, loss: LossTerms, names: frozenset[str], draws: Draws, batch: Any) -> Sums:
        """Sum the products of what the two random factors of each operation make of the named parameters, over examples and draws."""
        opened = OpenedCotangents(self._squares.opened(evaluate, batch, self._names), loss)
        nodes = self._nodes(evaluate, opened.outputs, opened.layers, batch)
        totals = _Totals(opened.layers, names)
        if totals.numbers & nodes.unknown or names - totals.owned:
            msg = (
                "operations above the layers are others in this batch than in those before: the model does not always compute the same way, "
                "so curvature cannot be propagated through it"
            )
            raise ModelError(msg)
        edges = [GradientEdge(node.curved.node, 0) for node in nodes.placed]
        cotangents = layer_cotangents(opened.outputs, edges, opened.cotangents) if edges else []
        for node, cotangent in zip(nodes.placed, cotangents, strict=True):
            if below := sorted(node.curved.layers & totals.numbers):
                _add(totals, node, cotangent, below, draws)
        zeros = {name: torch.zeros_like(held(self._parameters[name].detach())) for name in names}
        return Sums(opened.weight, opened.rows, (zeros | totals.arrays(),))

    def _nodes(self, evaluate: Evaluate, outputs: torch.Tensor, layers: Sequence[PassedLayer], batch: Any) -> _Nodes:
        """Find the operations above the layers, with their examples told apart as in the test; all layers are unknown if they are others."""
        # a single example tells nothing of where several are, and torch may take other operations for it
        alone = batch_size(batch) == 1
        if alone not in self._tested:
            few = take(batch, 0, TEST_EXAMPLES)
            head = self._squares.opened(evaluate, few, self._names)
            self._tested[alone] = _tested(head.outputs, head.layers, batch_size(few))
        found = above(outputs, [layer.output for layer in layers])
        return self._tested[alone].placed(found.curved, found.unknown, batch_size(batch), len(layers))


class _Node(NamedTuple):
    """An operation, its number, and where the examples are in its first argument."""

    curved: Curved
    number: int
    layout: Layout


class _Nodes(NamedTuple):
    """The operations above the layers, and the numbers of layers with others above them."""

    placed: Sequence[_Node]
    unknown: frozenset[int]


class _Tested(NamedTuple):
    """What has been tested: the operations, and on which axis of each first argument the examples are; None if they are not apart."""

    kinds: list[tuple[object, ...]]
    places: list[tuple[int, bool] | None]

    def placed(self, curved: Sequence[Curved], unknown: frozenset[int], examples: int, layers: int) -> _Nodes:
        if [one.kind for one in curved] != self.kinds:
            return _Nodes([], frozenset(range(layers)))
        nodes, lost = [], set(unknown)
        for number, (one, place) in enumerate(zip(curved, self.places, strict=True)):
            shape = edge_shape(one.edges[0])
            if place is None or shape[place[0]] % examples:
                lost |= one.layers
            else:
                nodes.append(_Node(one, number, Layout(shape, (), examples, *place)))
        return _Nodes(nodes, frozenset(lost))


def _tested(outputs: torch.Tensor, layers: Sequence[PassedLayer], examples: int) -> _Tested:
    """Test where the examples are. Cost: a backward pass for each of them."""
    curved = above(outputs, [layer.output for layer in layers]).curved
    edges = [one.edges[0] for one in curved]
    placed, _ = examples_apart(outputs, edges, [list(layouts(edge_shape(edge), (), examples)) for edge in edges])
    places = [None if layout is None else (layout.axis, layout.last) for layout in placed]
    return _Tested([one.kind for one in curved], places)


def _add(totals: _Totals, node: _Node, cotangent: torch.Tensor, below: Sequence[int], draws: Draws) -> None:
    """Add what one operation contributes to the layers below it."""
    first, last = node.curved.edges[0], node.curved.edges[-1]
    targets = [totals.layers[number].output for number in below]
    own = {number: function for number in below if (function := own_function(node.curved, totals.layers[number]))}
    for number, function in own.items():
        totals.add_known(number, function.diagonal(curvature(node.curved, cotangent)), len(draws.numbers))
    make = factors(node.curved, node.layout, cotangent)
    for draw in draws.numbers:
        left, right = make(_Signs(node, draws, draw, cotangent))
        pairs = zip(_carried(first, left, targets), _carried(last, right, targets), strict=True)
        for number, (one, other) in zip(below, pairs, strict=True):
            function = own.get(number)
            if function is None:
                totals.add(number, one, other)
            else:
                totals.add(number, one - function.at_outputs(left), other - function.at_outputs(right))


def _carried(edge: GradientEdge, factor: torch.Tensor, targets: Sequence[GradientEdge]) -> list[torch.Tensor]:
    """Take a cotangent of an operation's argument to the outputs of the layers below: one backward pass."""
    found = torch.autograd.grad([edge], targets, [factor], retain_graph=True, allow_unused=True)
    return [
        factor.new_zeros(edge_shape(target)) if one is None else one for target, one in zip(targets, found, strict=True)
    ]


class _Signs:
    """The signs of one draw at one operation, which belong to the numbers of the examples in the data."""

    def __init__(self, node: _Node, draws: Draws, draw: int, like: torch.Tensor) -> None:
        self._node = node
        self._draws = draws
        self._draw = draw
        self._like = like

    def __call__(self, part: int, shape: torch.Size) -> torch.Tensor:
        place, number = self._node.layout, 2 * self._node.number + part
        layout = Layout(shape, (), place.examples, place.axis, place.last)
        width = shape.numel() // place.examples
        drawn = node_signs(self._draws.seed, self._draw, number, self._draws.start, place.examples, width)
        return layout.back(torch.as_tensor(drawn).to(self._like.device, self._like.dtype))


class _Totals:
    """The sums for named parameters, layer by layer."""

    def __init__(self, layers: Sequence[PassedLayer], names: frozenset[str]) -> None:
        self.layers = layers
        self._wanted = [
            {attribute: name for attribute, name in layer.owned.items() if name in names} for layer in layers
        ]
        self.numbers = frozenset(number for number, wanted in enumerate(self._wanted) if wanted)
        self.owned = {name for wanted in self._wanted for name in wanted.values()}
        self._accumulators: dict[int, Accumulator] = {}
        self._known: dict[str, torch.Tensor] = {}

    def add(self, number: int, one: torch.Tensor, other: torch.Tensor) -> None:
        """Add the product of what two cotangents of a layer's outputs make of its parameters."""
        layer = self.layers[number]
        if number not in self._accumulators:
            self._accumulators[number] = layer.accumulator(frozenset(self._wanted[number]))
        examples = layer.by_unit(one).shape[0]
        self._accumulators[number].add(held(one).new_ones(examples), held(one), held(other))

    def add_known(self, number: int, diagonal: Mapping[str, torch.Tensor], times: int) -> None:
        """Add what is known of the diagonal, as often as there are draws."""
        for attribute, name in self._wanted[number].items():
            known = times * diagonal[attribute]
            self._known[name] = self._known[name] + known if name in self._known else known

    def arrays(self) -> dict[str, torch.Tensor]:
        totals = dict(self._known)
        for number, accumulator in self._accumulators.items():
            for attribute, total in accumulator.totals().items():
                name = self._wanted[number][attribute]
                totals[name] = totals[name] + total if name in totals else total
        return totals
