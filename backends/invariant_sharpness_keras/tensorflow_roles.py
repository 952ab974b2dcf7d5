"""How parameters enter a model on TensorFlow: the axes of those whose layers do not tell them, read off the graph of one batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from invariant_sharpness.adapters.data import PASS_SEED, Dataset
from invariant_sharpness.parameters.uses import Operand, Use, as_factor, as_kernel, as_table, told_alike
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_keras.tensorflow_engine import TensorflowEngine

_KEEPING = {"Identity", "Cast", "ReadVariableOp", "CheckNumerics"}
_RESHAPING = {"Reshape", "ExpandDims", "Squeeze"}
_PRODUCTS = {
    "MatMul": ("transpose_a", "transpose_b"),
    "BatchMatMul": ("adj_x", "adj_y"),
    "BatchMatMulV2": ("adj_x", "adj_y"),
    "BatchMatMulV3": ("adj_x", "adj_y"),
}
"""Which attributes tell that the last two axes of the left and of the right factor are exchanged."""

_CONVOLUTIONS = {"Conv2D", "Conv3D"}
_TRANSPOSED = {"Conv2DBackpropInput", "Conv3DBackpropInputV2"}
_DEPTHWISE = {"DepthwiseConv2dNative"}
_TABLES = {"GatherV2", "ResourceGather"}
_CALLS = {
    "PartitionedCall": "f",
    "StatefulPartitionedCall": "f",
    "While": "body",
    "StatelessWhile": "body",
}
"""Which attribute names the graph that takes the operation's inputs."""


def uses(engine: TensorflowEngine, names: frozenset[str], dataset: Dataset[Any]) -> tuple[ParameterGroup, ...]:
    """Describe those of the named parameters that enter in matrix products, convolutions or tables, always in the same way.

    Nothing is computed: the graph of the outputs of the first batch is there.
    """
    with engine.random_state(PASS_SEED, dataset.batches.source):
        batch = next(iter(dataset))
    parameters = engine.native(engine.parameters())
    with engine.at(parameters) as point:
        graph = point.graph_of_outputs(batch)
    operands = {
        tensor.name: Operand.of(group.name, group.shape)
        for group, tensor in zip(engine.groups, engine.function.placeholders(graph), strict=True)
    }
    return told_alike(_walk(graph, operands), names)


def _walk(graph: Any, operands: dict[str, Operand]) -> Iterator[Use]:
    """Follow the parameters, which are given by the names of tensors, through a graph and those that it calls."""
    for operation in graph.get_operations():
        given = [operands.get(tensor.name) for tensor in operation.inputs]
        if not any(given):
            continue
        if operation.type in _CALLS:
            inner = graph._get_function(operation.get_attr(_CALLS[operation.type]).name).graph
            pairs = zip(inner.inputs, given, strict=True)
            yield from _walk(inner, {tensor.name: own for tensor, own in pairs if own is not None})
        elif given[0] is not None and (moved := _rearranged(operation, given[0])) is not None:
            operands[operation.outputs[0].name] = moved
        else:
            yield from _described(operation, given)


def _rearranged(operation: Any, own: Operand) -> Operand | None:
    """The same parameter in another layout."""
    if operation.type in _KEEPING:
        return own
    if operation.type == "Transpose":
        order = tf.get_static_value(operation.inputs[1])
        return None if order is None else own.transposed(order.tolist())
    if operation.type in _RESHAPING:
        before, after = operation.inputs[0].shape, operation.outputs[0].shape
        if before == after:
            return own
        return own.reshaped(after.as_list()) if after.is_fully_defined() else None
    return None


def _described(operation: Any, given: list[Operand | None]) -> Iterator[Use]:
    kind, table, kernel = operation.type, given[0], given[1] if len(given) > 1 else None
    if kind in _PRODUCTS or kind == "Einsum":
        alone = len([own for own in given if own is not None]) == 1
        factors = _factors_of_einsum(operation, given) if kind == "Einsum" else _factors(operation, given)
        yield from ((name, group if alone else None) for name, group in factors)
    elif kind in _TABLES and table is not None and len(table.axes) == 2 and _takes_rows(operation):
        yield as_table(table.name, table.shape, *table.axes)
    elif kernel is not None and kind in _CONVOLUTIONS | _TRANSPOSED | _DEPTHWISE:
        yield _kernel(operation, kernel)


def _kernel(operation: Any, own: Operand) -> Use:
    *_, first, last = own.axes
    channels = operation.inputs[1].shape[-2]
    if operation.type in _TRANSPOSED:
        return as_kernel(own.name, own.shape, first, last, 1, "output")
    if operation.type in _DEPTHWISE:
        return as_kernel(own.name, own.shape, last, first, channels, "output")
    axis = 1 if operation.get_attr("data_format").startswith(b"NC") else -1
    given = operation.inputs[0].shape[axis]
    return (own.name, None) if given is None else as_kernel(own.name, own.shape, last, first, given // channels)


def _takes_rows(operation: Any) -> bool:
    return operation.type == "ResourceGather" or tf.get_static_value(operation.inputs[2]) == 0


def _factors(operation: Any, given: list[Operand | None]) -> Iterator[Use]:
    for place, (own, exchanged) in enumerate(zip(given, _PRODUCTS[operation.type], strict=True)):
        if own is not None:
            *stacked, rows, columns = own.axes
            turned = operation.get_attr(exchanged) != (place == 1)
            outputs, inputs = (columns, rows) if turned else (rows, columns)
            yield as_factor(own.name, own.shape, stacked, [outputs], [inputs])


def _factors_of_einsum(operation: Any, given: list[Operand | None]) -> Iterator[Use]:
    """Axes that are summed over with the other factor are inputs; those that both factors and the result have are stacked."""
    operands, result = operation.get_attr("equation").decode().split("->")
    letters = operands.split(",")
    for place, own in enumerate(given):
        others = "".join(letters[:place] + letters[place + 1 :])
        if own is not None and set(letters[place]) <= {*others, *result} - {"."}:
            axes = list(zip(letters[place], own.axes, strict=True))
            stacked = [run for letter, run in axes if letter in others and letter in result]
            outputs = [run for letter, run in axes if letter not in others]
            inputs = [run for letter, run in axes if letter not in result]
            yield as_factor(own.name, own.shape, stacked, outputs, inputs)
