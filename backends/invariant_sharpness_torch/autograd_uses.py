"""Where parameters enter a model: the operations in autograd's graph that take one, or a view of it, whoever calls them.

Attention of ``torch.nn`` hands parts of one packed weight to functions, and modules of users do as they like; the graph of a forward pass shows it all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

Node = Any
"""A node of autograd's graph, as ``tensor.grad_fn`` is."""

Consumers = dict[Node, list[tuple[Node, int, int]]]
"""By node, the operations that take a result of it: the operation, as which argument, and which result."""

VIEWS = frozenset(
    f"{name}Backward0"
    for name in (
        *("T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Alias", "Clone", "Unsqueeze", "Squeeze"),
        *("Split", "SplitWithSizes", "Slice", "Select", "Unbind"),
    )
) | {"SqueezeBackward1"}
"""Operations whose results are entries of their one argument, each entry once."""

TABLE = "EmbeddingBackward0"

_TURNED = "TBackward0"

_CAST = "ToCopyBackward0"
"""What autocast makes of a parameter, once for all operations that take it."""

_BROADCASTING = frozenset({"AddBackward0", "MulBackward0", "ExpandBackward0"})


class View(NamedTuple):
    """A view in the graph, and which of its results is meant."""

    node: Node
    result: int

    def put_back(self, values: torch.Tensor) -> torch.Tensor:
        """Put values of this result where they come from, among zeros."""
        results = range(len(self.node._input_metadata))
        placed: torch.Tensor = self.node(*(values if number == self.result else None for number in results))
        return placed


class Use(NamedTuple):
    """An operation that takes a parameter, or a view of it.

    Parameters
    ----------
    name, parameter
        The parameter.
    views
        From the parameter to what the operation takes.
    node, argument
        The operation, and which of its arguments this is.
    """

    name: str
    parameter: nn.Parameter
    views: tuple[View, ...]
    node: Node
    argument: int

    @property
    def shape(self) -> torch.Size:
        """The shape of what the operation takes."""
        return result_shape(*self.views[-1]) if self.views else self.parameter.shape

    @property
    def kind(self) -> tuple[Any, ...]:
        """What does not depend on the batch."""
        views = [(view.node.name(), view.result) for view in self.views]
        return (*views, self.node.name(), self.argument, tuple(self.shape), len(result_shape(self.node, 0)))

    def put_back(self, values: torch.Tensor) -> torch.Tensor:
        """Put values of what the operation takes where they are in the parameter, among zeros."""
        for view in reversed(self.views):
            values = view.put_back(values)
        return values

    @property
    def is_turned(self) -> bool:
        """Whether the operation takes the whole parameter, or its transpose."""
        return all(view.node.name() == _TURNED for view in self.views)

    def turned(self, values: torch.Tensor) -> torch.Tensor:
        """Return a view of values of the whole parameter as the operation takes it, if it ``is_turned``."""
        return values.t() if len(self.views) % 2 else values

    def value(self) -> torch.Tensor:
        """Return what the operation takes: the transpose of ``put_back``, on the parameter."""
        taken = self.parameter.new_zeros(self.shape).requires_grad_()
        with torch.enable_grad():
            (value,) = torch.autograd.grad(self.put_back(taken), taken, self.parameter.detach())
        return value


def result_shape(node: Node, result: int) -> torch.Size:
    """Return the shape of a result of an operation."""
    return torch.Size(node._input_metadata[result].shape)


def uses(
    consumers: Consumers, parameters: Mapping[str, nn.Parameter], for_all: frozenset[str] = frozenset()
) -> dict[str, list[Use]]:
    """Return what takes each parameter, or views of it.

    Rows of a table that are repeated for all examples are a view. For parameters ``for_all`` they are known to be, as a single example does not show it.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    found: dict[str, list[Use]] = {}
    for node in consumers:
        if name := names.get(id(getattr(node, "variable", None))):
            reached = _reached(node, 0, (), consumers, for_all=name in for_all)
            found[name] = [Use(name, parameters[name], *rest) for rest in reached]
    return found


def taken_again(outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter]) -> frozenset[str]:
    """Return the parameters that several operations take in this pass, whatever their derivatives are. Cost: a look at each operation, and at no number."""
    consumers = consumers_of(outputs)
    names = {id(parameter): name for name, parameter in parameters.items()}
    return frozenset(
        names[id(node.variable)]
        for node in consumers
        if id(getattr(node, "variable", None)) in names and _times_taken(node, 0, consumers) > 1
    )


def _times_taken(node: Node, result: int, consumers: Consumers) -> int:
    """How many operations take this result, through views and casts or as it is."""
    return sum(
        sum(_times_taken(consumer, number, consumers) for number in range(len(consumer._input_metadata)))
        if consumer.name() in VIEWS or consumer.name() == _CAST
        else 1
        for consumer, _, taken in consumers[node]
        if taken == result
    )


def consumers_of(outputs: torch.Tensor) -> Consumers:
    """Return all operations that the outputs are made of, in an order that is the same in every pass. Cost: a look at each, and at no number."""
    consumers: Consumers = {} if outputs.grad_fn is None else {outputs.grad_fn: []}
    waiting = list(consumers)
    while waiting:
        node = waiting.pop()
        for argument, (source, result) in enumerate(node.next_functions):
            if source is None:
                continue
            if source not in consumers:
                consumers[source] = []
                waiting.append(source)
            consumers[source].append((node, argument, result))
    return consumers


def _reached(
    node: Node, result: int, views: tuple[View, ...], consumers: Consumers, *, for_all: bool
) -> Iterator[tuple[tuple[View, ...], Node, int]]:
    """Yield the operations that take this result, through views or as it is, with the views and the argument."""
    for consumer, argument, taken in consumers[node]:
        if taken != result:
            continue
        if consumer.name() == TABLE and (rows := list(_rows_for_all(consumer, views, consumers, for_all=for_all))):
            yield from rows
            continue
        if consumer.name() not in VIEWS:
            yield views, consumer, argument
            continue
        for number in range(len(consumer._input_metadata)):
            yield from _reached(consumer, number, (*views, View(consumer, number)), consumers, for_all=for_all)


def _rows_for_all(
    node: Node, views: tuple[View, ...], consumers: Consumers, *, for_all: bool
) -> Iterator[tuple[tuple[View, ...], Node, int]]:
    """Yield what takes rows of a table that are the same for all examples, as those of positions are; nothing if they are not, or a row comes twice."""
    found = list(_reached(node, 0, (*views, View(node, 0)), consumers, for_all=for_all))
    shared = for_all or all(_repeats(consumer, result_shape(*chain[-1])) for chain, consumer, _ in found)
    if shared and _distinct(node._saved_indices):
        yield from found


def _distinct(indices: torch.Tensor) -> bool:
    return indices.unique().numel() == indices.numel()


def _repeats(node: Node, taken: torch.Size) -> bool:
    """Whether an operation repeats what it takes along the first axis of its outputs."""
    shape = result_shape(node, 0)
    return node.name() in _BROADCASTING and (len(taken) < len(shape) or taken[0] < shape[0])
