"""In which parameters the outputs may be curved: read off the graph of a forward pass, before anything is differentiated.

An operation that is linear, or linear in each of two factors, leaves the outputs affine in what enters it once; one that is curved does not, for anything
below it. Of an operation that is not in the tables nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from invariant_sharpness.protocol import OutputForm
from invariant_sharpness_torch.autograd_uses import TABLE, Node
from invariant_sharpness_torch.graph_nodes import ELEMENTWISE, LINEAR, PRODUCTS, WHOLE, is_complex

Names = frozenset[str]

_BATCH_NORM = "NativeBatchNormBackward0"


def output_form(outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter]) -> OutputForm:
    """Return the parameters in which these outputs are curved by their graph, and those of which it does not tell.

    Cost: a look at each operation, and at no number.
    """
    if outputs.grad_fn is None:
        return OutputForm()
    names = {id(parameter): name for name, parameter in parameters.items()}
    below: dict[Node, Names] = {}
    curved: set[str] = set()
    unknown: set[str] = set()
    for node in _from_below(outputs.grad_fn):
        entering = [below.get(source, frozenset()) for source, _ in node.next_functions]
        own = names.get(id(getattr(node, "variable", None)))
        below[node] = frozenset().union(*entering) if own is None else frozenset({own})
        found = _curved_in(node, entering)
        if found is None:
            unknown |= below[node]
        else:
            curved |= found
    return OutputForm(frozenset(curved), frozenset(unknown - curved))


def _from_below(root: Node) -> Iterator[Node]:
    """Yield all operations, each after those that it takes."""
    seen: set[Node] = {root}
    waiting: list[tuple[Node, Iterator[Node]]] = [(root, _sources(root))]
    while waiting:
        node, sources = waiting[-1]
        following = next((source for source in sources if source not in seen), None)
        if following is None:
            waiting.pop()
            yield node
        else:
            seen.add(following)
            waiting.append((following, _sources(following)))


def _sources(node: Node) -> Iterator[Node]:
    return (source for source, _ in node.next_functions if source is not None)


def _curved_in(node: Node, below: list[Names]) -> Names | None:
    """The parameters in which the results of an operation are curved, if they are not below it already; None if that is not known."""
    name, active = node.name(), [argument for argument, names in enumerate(below) if names]
    if not active or name in LINEAR or name == TABLE:
        return None if any(is_complex(node, argument) for argument in active) else frozenset()
    if any(is_complex(node, argument) for argument in active):
        return None
    if name in PRODUCTS or (name == _BATCH_NORM and not node._saved_training):
        first, second = PRODUCTS.get(name, (0, 1))
        return below[first] & below[second]
    if name in ELEMENTWISE or name in WHOLE or name == _BATCH_NORM:
        return below[0]
    return below[1] if name == "DivBackward0" else None
