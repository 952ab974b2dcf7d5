"""In which parameters the outputs may be curved: read off the graph of their gradient, before anything is computed.

The outputs of a network that is piecewise linear in each of its layers have first derivatives in a layer that depend on others alone, or on signs and places of
maxima, whose derivatives are zero. Where no other way leads from a parameter to the derivative in it, its block of the second derivative is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invariant_sharpness.protocol import OutputForm

FLAT: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Ceil", "Floor", "OnesLike", "Rint", "Sign", "StopGradient", "ZerosLike"), frozenset({0})),
    **dict.fromkeys(("LeakyReluGrad", "Relu6Grad", "ReluGrad"), frozenset({1})),
    "MaxPoolGrad": frozenset({0, 1}),
}  # fmt: skip
"""Operations, and the numbers of their inputs in which TensorFlow's derivative of them is zero or none."""

_LOOPS_AND_CALLS = frozenset(
    {
        *("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"),
        *("PartitionedCall", "StatefulPartitionedCall", "SymbolicGradient", "PyFunc", "EagerPyFunc"),
    }
)
"""What is inside of them is not looked at: each result counts as depending on all arguments."""


def form_of_slopes(traced: Any, sources: Sequence[Any], names: Sequence[str]) -> OutputForm:
    """Return the groups that the derivatives in themselves depend on by a way with a derivative, and those of which loops and calls hide it.

    Parameters
    ----------
    traced
        The concrete function whose results are the derivatives, in the order of the names.
    sources
        The parameters, as placeholders of its graph, in the same order.
    names
        The groups.
    """
    bits = {name: 1 << position for position, name in enumerate(names)}
    found = {source.name: bits[name] for source, name in zip(sources, names, strict=True)}
    hidden = 0
    for operation in traced.graph.get_operations():
        flat = FLAT.get(operation.type, frozenset())
        of_inputs = 0
        for number, tensor in enumerate(operation.inputs):
            of_inputs |= 0 if number in flat else found.get(tensor.name, 0)
        hidden |= of_inputs if operation.type in _LOOPS_AND_CALLS else 0
        if of_inputs:
            found |= {tensor.name: of_inputs for tensor in operation.outputs if _has_derivatives(tensor.dtype)}
    own = {
        name
        for name, slope in zip(names, traced.structured_outputs, strict=True)
        if found.get(slope.name, 0) & bits[name]
    }
    unknown = frozenset(name for name in own if hidden & bits[name])
    return OutputForm(frozenset(own - unknown), unknown)


def told_shape(graph: Any, examples: int) -> tuple[int, ...] | None:
    """Return the shape of the outputs of so many examples; None if the graph does not tell it, or there is not one tensor.

    Parameters
    ----------
    graph
        Of the outputs, which may leave the number of examples open.
    examples
        That number.
    """
    shape = getattr(graph.structured_outputs, "shape", None)
    if not shape or not shape[1:].is_fully_defined():
        return None
    return (shape[0] or examples, *shape[1:])


def _has_derivatives(dtype: Any) -> bool:
    return not (dtype.is_integer or dtype.is_bool or dtype.name == "string")
