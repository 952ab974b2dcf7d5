"""What the operations of autograd's graph are to the layers below them: linear, curved in a way that is known, or unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from invariant_sharpness_torch.autograd_uses import VIEWS, Node, consumers_of, result_shape

_NUMBERED = (
    *("Add", "Sub", "Rsub", "Neg", "Sum", "Mean", "Cumsum", "Cat", "Stack", "Expand", "Repeat", "Roll", "Flip"),
    *("Index", "IndexSelect", "Gather", "MaskedFill", "Where", "Tril", "Triu", "ConstantPadNd", "ToCopy"),
    *("UnsafeSplit", "Unfold", "Im2Col", "Col2Im", "PixelShuffle", "PixelUnshuffle"),
    *("AvgPool2D", "AvgPool3D", "AdaptiveAvgPool2D", "MkldnnAdaptiveAvgPool2D", "AdaptiveAvgPool3D"),
    *("ReflectionPad2D", "ReplicationPad2D", "UpsampleNearest2D", "UpsampleBilinear2D"),
    # linear on either side of a kink
    *("Relu", "LeakyRelu", "Hardtanh", "Threshold", "Clamp", "ClampMin", "Abs", "Maximum", "Minimum"),
    *("Max", "Min", "Amax", "Amin", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D"),
)
LINEAR = (
    VIEWS | {f"{name}Backward{number}" for name in _NUMBERED for number in range(3)} | {"MulBackward1", "DivBackward1"}
)
"""Operations that are linear in all their arguments together, or piecewise so."""

PRODUCTS = {
    **dict.fromkeys(("MulBackward0", "BmmBackward0", "MmBackward0", "PreluKernelBackward0"), (0, 1)),
    **dict.fromkeys(("AddmmBackward0", "BaddbmmBackward0"), (1, 2)),
    "ConvolutionBackward0": (0, 1),
}
"""Operations that are linear in each of two factors, and in all other arguments: which arguments these factors are."""

ELEMENTWISE = frozenset(
    f"{name}Backward0"
    for name in (
        *("Gelu", "Silu", "Tanh", "Sigmoid", "Softplus", "Elu", "Celu", "Mish", "Hardswish", "LogSigmoid", "Pow"),
        *("Exp", "Exp2", "Expm1", "Log", "Log2", "Log10", "Log1P", "Sqrt", "Rsqrt", "Reciprocal"),
        *("Sin", "Cos", "Tan", "Sinh", "Cosh", "Atan", "Asinh", "Erf", "Erfc"),
    )
)
"""Functions of one argument, entry by entry."""

WHOLE = frozenset(
    {
        *("SoftmaxBackward0", "SafeSoftmaxBackward0", "LogSoftmaxBackward0"),
        *("NativeLayerNormBackward0", "NativeGroupNormBackward0"),
    }
)
"""Functions of their first argument whose entries meet: softmax and norms."""


class Curved(NamedTuple):
    """An operation that is not linear in what comes from layers below it.

    Parameters
    ----------
    node
        Its node in the graph.
    arguments
        Where signs are put in: its one argument, or two factors.
    layers
        The numbers of the layers below it; below both factors.
    """

    node: Node
    arguments: tuple[int, ...]
    layers: frozenset[int]

    @property
    def edges(self) -> list[GradientEdge]:
        return [argument_edge(self.node, argument) for argument in self.arguments]

    @property
    def kind(self) -> tuple[object, ...]:
        """What does not depend on the batch."""
        return self.node.name(), self.arguments, tuple(len(edge_shape(edge)) for edge in self.edges), self.layers


class Above(NamedTuple):
    """What is above the layers.

    Parameters
    ----------
    curved
        All operations with a rule, in the order of the graph.
    unknown
        The numbers of those layers that have an operation above them of which nothing is known.
    """

    curved: list[Curved]
    unknown: frozenset[int]


def argument_edge(node: Node, argument: int) -> GradientEdge:
    """Return where an argument of an operation is in the graph."""
    source, result = node.next_functions[argument]
    return GradientEdge(source, result)


def edge_shape(edge: GradientEdge) -> torch.Size:
    """Return the shape of what is there."""
    return result_shape(edge.node, edge.output_nr)


def above(outputs: torch.Tensor, layers: Sequence[GradientEdge]) -> Above:
    """Look at all operations above these outputs of layers. Cost: a look at each, and at no number."""
    below = _Below(outputs, layers)
    curved: list[Curved] = []
    unknown: set[int] = set()
    for node in below.nodes:
        of_arguments = below.arguments(node)
        found = _curved(node, of_arguments)
        if found is None:
            unknown.update(*of_arguments)
        else:
            curved.extend(found)
    return Above(curved, frozenset(unknown))


class _Below:
    """Which layers are below which operations."""

    def __init__(self, outputs: torch.Tensor, layers: Sequence[GradientEdge]) -> None:
        consumers = consumers_of(outputs)
        self.nodes = list(consumers)
        self._found: dict[tuple[Node, int], set[int]] = {}
        for number, edge in enumerate(layers):
            self._found.setdefault((edge.node, edge.output_nr), set()).add(number)
        waiting = list(self._found)
        while waiting:
            key = waiting.pop()
            for consumer, _, result in consumers.get(key[0], ()):
                if result != key[1]:
                    continue
                for number in range(len(consumer._input_metadata)):
                    known = self._found.setdefault((consumer, number), set())
                    if not self._found[key] <= known:
                        known |= self._found[key]
                        waiting.append((consumer, number))

    def arguments(self, node: Node) -> list[frozenset[int]]:
        return [frozenset(self._found.get(source, ())) for source in node.next_functions]


def _curved(node: Node, below: Sequence[frozenset[int]]) -> list[Curved] | None:
    """What an operation is to the layers below its arguments; None if that is not known."""
    name, active = node.name(), [argument for argument, layers in enumerate(below) if layers]
    if any(is_complex(node, argument) for argument in active):
        return None
    if (
        not active
        or name in LINEAR
        or (name == "NativeBatchNormBackward0" and active == [0] and not node._saved_training)
    ):
        return []
    if name in PRODUCTS:
        both = below[PRODUCTS[name][0]] & below[PRODUCTS[name][1]]
        return [Curved(node, _factors(node), both)] if both else []
    if name in ELEMENTWISE or (name in WHOLE and active == [0]):
        return [Curved(node, (0,), below[0])]
    return _quotient(node, below) if name == "DivBackward0" else None


def is_complex(node: Node, argument: int) -> bool:
    """Say whether an argument is complex: then the absolute value is curved, and functions of it have other second derivatives than those of real ones."""
    source, result = node.next_functions[argument]
    return bool(source._input_metadata[result].dtype.is_complex)


def _quotient(node: Node, below: Sequence[frozenset[int]]) -> list[Curved]:
    """A function of the divisor, entry by entry, and what has derivatives in both."""
    both = below[0] & below[1]
    return [Curved(node, (1,), below[1])] * bool(below[1]) + [Curved(node, (0, 1), both)] * bool(both)


def _factors(node: Node) -> tuple[int, ...]:
    """The two factors: of a product entry by entry the shorter one, which takes fewer signs, is the first."""
    if node.name() != "MulBackward0":
        return PRODUCTS[node.name()]
    sizes = [edge_shape(argument_edge(node, argument)).numel() for argument in (0, 1)]
    return (1, 0) if sizes[1] < sizes[0] else (0, 1)
