"""Layers that are no modules: operations of autograd's graph that are affine in parameters, or in views of them.

A parameter may enter several operations with different entries, as the packed weight of attention does; each then adds its part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

from invariant_sharpness_torch.affine_operations import ADDING, KINDS, Kind, Taken
from invariant_sharpness_torch.autograd_uses import TABLE, Node, Use, consumers_of, result_shape, uses
from invariant_sharpness_torch.layer_rules import Accumulator
from invariant_sharpness_torch.layouts import Layout, layouts

_OF_ROWS = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"})
"""Views of rows that leave each row as it is, if they leave its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation that is affine in parameters.

    Parameters
    ----------
    node
        Its node in the graph.
    kind
        What it does.
    taken
        The parameters.
    number
        Its place in the order of the graph.
    """

    node: Node
    kind: Kind
    taken: Taken
    number: int

    @property
    def units(self) -> tuple[int, ...]:
        """The axes of its output units."""
        axes = len(result_shape(self.node, 0))
        if self.kind.units is not None:
            return (self.kind.units % axes,)
        sizes = max((use.shape for use in self.taken.values()), key=len)
        return tuple(axis for axis, size in enumerate(sizes, start=axes - len(sizes)) if size > 1)

    def entered_by(self, name: str) -> tuple[Any, ...]:
        """Return how a parameter enters, but for what depends on the batch; empty if it does not."""
        return tuple((attribute, use.kind) for attribute, use in self.taken.items() if use.name == name)

    @property
    def is_table(self) -> bool:
        """Whether it looks up rows."""
        return bool(self.node.name() == TABLE)

    def adds_gradient(self, name: str) -> bool:
        """Whether the gradient of an example in this parameter, which is its weight, can be added to that of other operations."""
        use = self.taken.get("weight")
        return self.kind.affine in ADDING and use is not None and use.name == name and use.is_turned

    def layouts(self, examples: int) -> Iterator[Layout]:
        """Return all places where the outputs may have so many examples."""
        return layouts(result_shape(self.node, 0), self.units, examples)


class GraphLayer:
    """An operation in one forward pass, with its examples told apart.

    Parameters
    ----------
    operation
        The operation.
    layout
        Where its examples are.
    names
        Those of its parameters that are asked for.
    """

    def __init__(self, operation: Operation, layout: Layout, names: frozenset[str]) -> None:
        self.operation = operation
        self.examples = layout.examples
        self.owned = {attribute: use.name for attribute, use in operation.taken.items() if use.name in names}
        self.output = GradientEdge(operation.node, 0)
        self.by_unit = layout.by_unit
        self.in_layout = layout.back
        self._shape = layout.shape
        self._taken = operation.taken
        self._affine = operation.kind.affine(operation.node, layout, operation.taken)

    def accumulator(self, attributes: frozenset[str]) -> Accumulator:
        return _InParameters(self._affine.accumulator(attributes), self._taken)

    def add_gradient(self, total: torch.Tensor, example: int, delta: torch.Tensor) -> None:
        """Add the gradient of an example in the whole weight, from cotangents of the outputs; see :meth:`Operation.adds_gradient`."""
        assert isinstance(self._affine, ADDING)
        self._affine.add_gradient(self._taken["weight"].turned(total), example, self.by_unit(delta)[example])

    def outputs(self) -> torch.Tensor:
        """Return what the parameters contribute to the outputs."""
        parts = [self._affine.contribution(attribute, use.value()) for attribute, use in self._taken.items()]
        return torch.broadcast_to(sum(parts[1:], parts[0]), self._shape)


class Trust(NamedTuple):
    """What has been tested of a parameter's operations.

    Parameters
    ----------
    entered
        How it enters each of them.
    places
        On which axis of their outputs the examples are, and whether they are last there.
    alone
        Whether a single example was tested, so that nothing is known of the places.
    """

    entered: tuple[Any, ...]
    places: tuple[tuple[int, bool], ...]
    alone: bool

    @property
    def for_all(self) -> bool:
        """Whether it is a table of which all examples get the same rows."""
        return any((TABLE, 0) in kind for entered in self.entered for _, kind in entered)

    def layouts(self, name: str, found: Sequence[Operation], examples: int) -> list[Layout] | None:
        """Return where the examples are in these operations; None if it enters others, or there is no room for so many examples."""
        if self.entered != tuple(operation.entered_by(name) for operation in found) or (self.alone and examples > 1):
            return None
        placed = [(operation, *place) for operation, place in zip(found, self.places, strict=True)]
        if any(result_shape(operation.node, 0)[axis] % examples for operation, axis, _ in placed):
            return None
        return [
            Layout(result_shape(operation.node, 0), operation.units, examples, axis, last)
            for operation, axis, last in placed
        ]


def graph_layers(
    outputs: torch.Tensor,
    parameters: Mapping[str, nn.Parameter],
    trusted: Mapping[str, Trust],
    names: frozenset[str],
    examples: int,
) -> list[GraphLayer]:
    """Return the operations of named parameters in this forward pass, in the order of the graph, if they are those that were tested.

    Parameters
    ----------
    outputs
        Of the model.
    parameters
        Those of the test: what is a bias to a product depends on them.
    trusted
        The result of the test.
    names
        The parameters that are asked for.
    examples
        How many examples the batch has.
    """
    for_all = frozenset(name for name in names & trusted.keys() if trusted[name].for_all)
    found = operations(outputs, parameters, for_all) if names & trusted.keys() else {}
    layouts: dict[Operation, Layout] = {}
    kept: set[str] = set()
    for name in found.keys() & trusted.keys() & names:
        placed = trusted[name].layouts(name, found[name], examples)
        if placed is not None:
            kept.add(name)
            layouts.update(zip(found[name], placed, strict=True))
    ordered = sorted(layouts, key=lambda operation: operation.number)
    return [GraphLayer(operation, layouts[operation], frozenset(kept)) for operation in ordered]


class _InParameters:
    """The squares of what an operation takes, put where it is in the parameters."""

    def __init__(self, squares: Accumulator, taken: Taken) -> None:
        self._squares = squares
        self._taken = taken
        self.add = squares.add

    def totals(self) -> dict[str, torch.Tensor]:
        totals = self._squares.totals()
        return {
            name: use.put_back(totals[name].reshape(use.shape)) for name, use in self._taken.items() if name in totals
        }


def operations(
    outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter], for_all: frozenset[str] = frozenset()
) -> dict[str, list[Operation]]:
    """Return the operations that each parameter enters, in one order; a parameter that also enters something else is left out.

    Parameters ``for_all`` are tables of which all examples get the same rows.
    """
    consumers = consumers_of(outputs)
    known = {
        name: found
        for name, found in uses(consumers, parameters, for_all).items()
        if found and all(_attribute(use) is not None for use in found)
    }
    taken, wrong = _by_node([use for found in known.values() for use in found])
    ordered = [
        Operation(node, KINDS[node.name()], taken[node], number)
        for number, node in enumerate(consumers)
        if node in taken
    ]
    for operation in ordered:
        if not operation.kind.applies(operation.node, operation.taken):
            wrong |= {use.name for use in operation.taken.values()}
    return {name: [o for o in ordered if o.entered_by(name)] for name in known if name not in wrong}


def _attribute(use: Use) -> str | None:
    """What a parameter is to the operation that it enters; None if it is neither a weight nor a bias."""
    kind = KINDS.get(use.node.name())
    return None if kind is None else kind.attributes.get(use.argument)


def _by_node(found: Sequence[Use]) -> tuple[dict[Node, dict[str, Use]], set[str]]:
    """Gather what enters each operation; return also the parameters that are the same to one operation as others are."""
    taken: dict[Node, dict[str, Use]] = {}
    twice: set[str] = set()
    for use in sorted(found, key=_is_sum):  # weights first, so that a sum finds its product
        node, attribute = use.node, str(_attribute(use))
        rows = _rows(use) if _is_sum(use) else None
        if rows in taken and "bias" not in taken[rows]:
            node = rows
        own = taken.setdefault(node, {})
        twice |= {use.name, own[attribute].name} if attribute in own else set()
        own[attribute] = use
    return taken, twice


def _is_sum(use: Use) -> bool:
    return bool(use.node.name() == "AddBackward0")


def _rows(use: Use) -> Node:
    """The product of matrices to whose rows a sum adds; None if there is none."""
    node, _ = use.node.next_functions[1 - use.argument]
    while node is not None and node.name() in _OF_ROWS:
        node, _ = node.next_functions[0]
    product = node is not None and node.name() in ("MmBackward0", "BmmBackward0")
    return node if product and tuple(use.shape) == tuple(result_shape(node, 0)[-1:]) else None
