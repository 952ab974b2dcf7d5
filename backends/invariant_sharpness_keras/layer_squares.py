r"""How a layer of Keras turns inputs and cotangents into squared gradients of single examples, or into products of two gradients.

With activations :math:`a_n` and cotangents :math:`\delta_n` of the layer's affine part, the gradient of an example in a kernel
is :math:`\sum_p a_{np} \delta_{np}^T` over its positions p. The rules are in the operations of Keras, for every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import keras
from keras import layers, ops

from invariant_sharpness_keras.layer_sites import Record, Site
from invariant_sharpness_keras.patches import grouped_patches

Tensor = Any


class Squares(Protocol):
    """Sums :math:`s_n d_n e_n` over examples, where :math:`d_n` and :math:`e_n` are an example's gradients in a variable, or in several together."""

    @property
    def held(self) -> int:
        """How many numbers are held for each example from the first term to the last."""
        ...

    @property
    def made(self) -> int:
        """How many numbers are made for each example of a term."""
        ...

    def term(self, signs: Tensor, left: Tensor, right: Tensor, /) -> Tensor:
        """Make what is added up over terms: of signed weights ``(n,)``, and the cotangents of the affine part that make d and e; one tensor twice for squares."""
        ...

    def finished(self, total: Tensor, /) -> tuple[Tensor, ...]:
        """Turn the sum of the terms into the shapes of the variables."""
        ...


Rule = Callable[[Site, Record], dict[tuple[str, ...], Squares]]
"""From a site and its record to the squares of the layer's variables, by their names in the layer."""


class VectorSquares:
    r"""A kernel that is multiplied with single vectors, :math:`d_n = a_n \delta_n^T`: terms can be added before the product.

    :math:`\sum_{nk} s_{nk} (a_n \delta_{nk}^T) \circ (a_n \epsilon_{nk}^T) = (a_n^2)^T (\sum_k s_{nk} \delta_{nk} \circ \epsilon_{nk})`: one matrix product in all.
    """

    held = made = 0

    def __init__(self, inputs: Tensor) -> None:
        self._inputs = inputs

    def term(self, signs: Tensor, left: Tensor, right: Tensor, /) -> Tensor:
        return signs[:, None] * (left * right)

    def finished(self, total: Tensor, /) -> tuple[Tensor, ...]:
        return (ops.matmul(ops.transpose(ops.square(self._inputs)), total),)


class ExampleSquares:
    """Any variables: the gradients of all examples are made, multiplied and added up, term by term.

    Parameters
    ----------
    gradients
        From cotangents to the gradients of the examples, of shape ``(n, ...)``.
    made
        How many numbers the gradient of an example has.
    arranged
        From the sum of products to the shapes of the variables.
    features
        What the cotangents are multiplied with, if anything is made of the inputs for it.
    """

    def __init__(
        self,
        gradients: Callable[[Tensor], Tensor],
        made: int,
        arranged: Callable[[Tensor], tuple[Tensor, ...]],
        features: Tensor | None = None,
    ) -> None:
        self.held = 0 if features is None else _entries(features)
        self.made = made
        self._gradients = gradients
        self._arranged = arranged

    def term(self, signs: Tensor, left: Tensor, right: Tensor, /) -> Tensor:
        return ops.tensordot(signs, _product(self._gradients, left, right), axes=1)

    def finished(self, total: Tensor, /) -> tuple[Tensor, ...]:
        return self._arranged(total)


class EmbeddingSquares:
    """A table: the gradients of a token's occurrences in one example are added before the product."""

    made = 0

    def __init__(self, tokens: Tensor, shape: tuple[int, ...]) -> None:
        self._tokens = ops.reshape(tokens, (ops.shape(tokens)[0], -1))
        self._same = ops.equal(self._tokens[:, :, None], self._tokens[:, None, :])
        self._shape = shape
        self.held = _entries(self._same)

    def term(self, signs: Tensor, left: Tensor, right: Tensor, /) -> Tensor:
        same = ops.cast(self._same, left.dtype)

        def gradients(delta: Tensor) -> Tensor:
            return ops.matmul(same, ops.reshape(delta, (ops.shape(same)[0], -1, self._shape[1])))

        # Each occurrence has the whole gradient of its token, so that all of them together count once.
        weights = signs[:, None, None] / ops.sum(same, axis=2)[:, :, None]
        products = ops.reshape(weights * _product(gradients, left, right), (-1, self._shape[1]))
        return ops.segment_sum(products, ops.reshape(self._tokens, (-1,)), self._shape[0])

    def finished(self, total: Tensor, /) -> tuple[Tensor, ...]:
        return (total,)


def _dense(site: Site, record: Record) -> dict[tuple[str, ...], Squares]:
    (inputs,) = record.inputs
    if len(inputs.shape) == 2:
        return {("kernel",): VectorSquares(inputs), ("bias",): _gain(None, (site.layer.units,))}
    rows = ops.reshape(inputs, (ops.shape(inputs)[0], 1, -1, inputs.shape[-1]))
    return _matrix(site, record, [ops.transpose(rows, (0, 1, 3, 2))], lambda total: total[0])


def _einsum_dense(site: Site, record: Record) -> dict[tuple[str, ...], Squares]:
    """The equation itself, with the axis of the examples kept; where that is not the first, there is no rule."""
    layer, (inputs,) = site.layer, record.inputs
    operands, outputs = layer.equation.replace(" ", "").split("->")
    letters, own = operands.split(",")
    if "." in layer.equation or letters[0] != outputs[0] or letters[0] in own:
        return {}
    equation = f"{letters},{outputs}->{letters[0]}{own}"
    kernel = ExampleSquares(lambda delta: ops.einsum(equation, inputs, delta), prod(layer.kernel.shape), _alone)
    bias = () if layer.bias is None else tuple(layer.bias.shape)
    return {("kernel",): kernel, ("bias",): _gain(None, bias)}


def _convolution(site: Site, record: Record) -> dict[tuple[str, ...], Squares]:
    """A matrix product with the patches at each position, channel group by channel group."""
    layer: Any = site.layer
    (inputs,), (outputs,) = record.inputs, record.outputs
    if layer.data_format != "channels_last":
        return {}
    shape = tuple(layer.kernel.shape)
    *offsets, channels, _ = shape
    depthwise = isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D))
    groups, per_group = (channels, 1) if depthwise else (layer.groups, channels)

    def arranged(total: Tensor) -> Tensor:
        parts = ops.reshape(total, (groups, prod(offsets), per_group, -1))
        return ops.reshape(ops.transpose(parts, (1, 2, 0, 3)), shape)

    return _matrix(site, record, grouped_patches(layer, inputs, outputs, groups), arranged)


def _normalization(site: Site, record: Record) -> dict[tuple[str, ...], Squares]:
    """What the gain multiplies is the output of the layer with a gain of one and no shift."""
    layer: Any = site.layer
    (inputs,) = record.inputs
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    last = range(len(inputs.shape) - len(axes), len(inputs.shape))
    if [axis % len(inputs.shape) for axis in axes] != list(last):
        return {}
    plain = {"gamma": ops.ones_like, "scale": ops.ones_like, "beta": ops.zeros_like}
    variables = list(layer.variables)
    values = [
        plain[v.name](value) if v.name in plain else value for v, value in zip(variables, record.values, strict=True)
    ]
    with keras.StatelessScope(list(zip(variables, values, strict=True))):
        normalized = layer.call(inputs)
    shapes = {v.name: tuple(v.shape) for v in variables if v.name in plain}
    return {(name,): _gain(None if name == "beta" else normalized, shape) for name, shape in shapes.items()}


def _embedding(site: Site, record: Record) -> dict[tuple[str, ...], Squares]:
    (tokens,) = record.inputs
    return {("embeddings",): EmbeddingSquares(ops.cast(tokens, "int32"), tuple(site.layer.embeddings.shape))}


RULES: dict[type, Rule] = {
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.Conv3D: _convolution,
    layers.DepthwiseConv1D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.BatchNormalization: _normalization,
    layers.LayerNormalization: _normalization,
    layers.GroupNormalization: _normalization,
    layers.RMSNormalization: _normalization,
    layers.Embedding: _embedding,
}


def _matrix(
    site: Site, record: Record, rows: list[Tensor], arranged: Callable[[Tensor], Tensor]
) -> dict[tuple[str, ...], Squares]:
    """A matrix product at many positions, of which a bias is one more row: one product serves both.

    Parameters
    ----------
    site, record
        The layer.
    rows
        What its kernel is multiplied with, in order, of shape ``(n, groups, inputs, positions)``.
    arranged
        From a sum of shape ``(groups, inputs, outputs of a group)`` to the shape of the kernel.
    """
    if "kernel" not in site.variables:
        return {("bias",): _gain(None, (record.outputs[0].shape[-1],))}
    names = ("kernel", "bias") if "bias" in site.variables else ("kernel",)
    ones = [ops.ones_like(rows[0][:, :, :1]) for _ in names[1:]]
    columns = ops.concatenate([*rows, *ones], axis=2)
    groups, inputs = columns.shape[1], columns.shape[2] - len(ones)

    def gradients(delta: Tensor) -> Tensor:
        outputs = ops.reshape(delta, (ops.shape(delta)[0], -1, groups, delta.shape[-1] // groups))
        return ops.matmul(columns, _exchanged(outputs))

    def by_name(total: Tensor) -> tuple[Tensor, ...]:
        return (arranged(total[:, :inputs]), *(ops.reshape(total[:, inputs], (-1,)) for _ in ones))

    made = groups * columns.shape[2] * (record.outputs[0].shape[-1] // groups)
    return {names: ExampleSquares(gradients, made, by_name, columns)}


def _exchanged(tensor: Tensor) -> Tensor:
    """The second and the third of four axes exchanged; an axis of length one is moved by a reshape, which copies nothing."""
    if tensor.shape[2] == 1:
        return ops.reshape(tensor, (ops.shape(tensor)[0], 1, -1, tensor.shape[3]))
    return ops.transpose(tensor, (0, 2, 1, 3))


def _gain(factor: Tensor | None, shape: tuple[int, ...]) -> Squares:
    """A variable of this shape that multiplies ``factor``, or is added if there is none, spread along the last axes."""

    def gradients(delta: Tensor) -> Tensor:
        slopes = delta if factor is None else delta * factor
        first = len(slopes.shape) - len(shape)
        spread = [first + axis for axis, side in enumerate(shape) if side == 1]
        axes = [*range(1, first), *(axis for axis in spread if axis > 0)]
        return ops.reshape(_summed(slopes, axes), (-1, *shape)) if axes else slopes

    return ExampleSquares(gradients, prod(shape), _alone, factor)


def _summed(tensor: Tensor, axes: list[int]) -> Tensor:
    """The sum over these axes, one after the other: TensorFlow takes one axis at a time through memory in order, and several not."""
    for axis in axes:
        tensor = ops.sum(tensor, axis=axis, keepdims=True)
    return tensor


def _product(gradients: Callable[[Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """Multiply the gradients that two cotangents make; one tensor twice makes them once."""
    one = gradients(left)
    return ops.square(one) if right is left else one * gradients(right)


def _alone(total: Tensor) -> tuple[Tensor, ...]:
    return (total,)


def _entries(tensor: Tensor) -> int:
    """Numbers for each example; axes of unknown length are left out."""
    return prod(side or 1 for side in tensor.shape[1:])
