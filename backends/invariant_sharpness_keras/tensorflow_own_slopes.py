"""Which parameters can be in the derivatives in themselves: read off the graph of a gradient, and nothing is computed.

The outputs of a network that is piecewise linear in each of its layers have first derivatives in a layer that depend on others alone, or on signs and places of
maxima, whose derivatives are zero. Where no other way leads from a parameter to the derivative in it, its block of the second derivative is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FLAT: dict[str, frozenset[int]] = {
    **dict.fromkeys(("Ceil", "Floor", "OnesLike", "Rint", "Sign", "StopGradient", "ZerosLike"), frozenset({0})),
    **dict.fromkeys(("LeakyReluGrad", "Relu6Grad", "ReluGrad"), frozenset({1})),
    "MaxPoolGrad": frozenset({0, 1}),
}  # fmt: skip
"""Operations, and the numbers of their inputs in which TensorFlow's derivative of them is zero or none."""


def in_own_slopes(graph: Any, sources: Sequence[Any], slopes: Sequence[Any]) -> frozenset[int]:
    """Return the positions of the sources that the slopes at the same positions depend on by a way with a derivative.

    Parameters
    ----------
    graph
        Where the tensors are; the functions that its operations call count as if each result depended on all arguments.
    sources
        The parameters, as placeholders.
    slopes
        The derivatives in them.
    """
    found = {source.name: 1 << position for position, source in enumerate(sources)}
    for operation in graph.get_operations():
        flat = FLAT.get(operation.type, frozenset())
        of_inputs = 0
        for number, tensor in enumerate(operation.inputs):
            of_inputs |= 0 if number in flat else found.get(tensor.name, 0)
        if of_inputs:
            found |= {tensor.name: of_inputs for tensor in operation.outputs if _has_derivatives(tensor.dtype)}
    return frozenset(position for position, slope in enumerate(slopes) if found.get(slope.name, 0) >> position & 1)


def _has_derivatives(dtype: Any) -> bool:
    return not (dtype.is_integer or dtype.is_bool or dtype.name == "string")
