"""Operations of autograd's graph whose outputs are affine in the parameters that they take: what these contribute, and their squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import nn
from torch.nn import functional

from invariant_sharpness_torch.autograd_uses import Node, Use, result_shape
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.layer_rules import (
    Accumulator,
    ConvolutionSquares,
    DenseSquares,
    EmbeddingSquares,
    FactorSquares,
    SequenceSquares,
)
from invariant_sharpness_torch.layouts import Layout

Taken = Mapping[str, Use]
"""The parameters of an operation: a ``"weight"``, a ``"bias"``, or both."""


class Affine(Protocol):
    """An operation in one forward pass."""

    def contribution(self, attribute: str, value: torch.Tensor) -> torch.Tensor:
        """Return what the weight or the bias adds to the outputs, up to broadcasting."""
        ...

    def accumulator(self, wanted: frozenset[str]) -> Accumulator:
        """Return what makes squares, of as many entries as the weight and the bias have, of cotangents of the outputs."""
        ...


class Product:
    """Rows times a matrix, whose inputs come first."""

    def __init__(self, node: Node, layout: Layout, taken: Taken) -> None:
        self._layout = layout
        rows = node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self
        # a bias alone asks for no inputs
        self._rows = rows.detach() if "weight" in taken else torch.zeros(*layout.shape[:-1], 0)

    def contribution(self, attribute: str, value: torch.Tensor) -> torch.Tensor:
        return self._rows @ value if attribute == "weight" else value

    def accumulator(self, wanted: frozenset[str]) -> Accumulator:
        by_unit = self._layout.by_unit
        inputs = by_unit(self._rows)
        if inputs.shape[1] > 1:
            return _Arranged(SequenceSquares(None, inputs, wanted), by_unit, torch.t)
        return _Arranged(DenseSquares(None, inputs[:, 0], wanted), lambda tensor: by_unit(tensor)[:, 0], torch.t)

    def add_gradient(self, total: torch.Tensor, example: int, delta: torch.Tensor) -> None:
        """Add the weight's gradient of one example, which cotangents of its outputs make, of shape (positions, units)."""
        total.addmm_(held(self._layout.by_unit(self._rows)[example]).mT, delta)


class Factor:
    """A factor for each output unit, or a summand."""

    def __init__(self, node: Node, layout: Layout, taken: Taken) -> None:
        self._layout = layout
        self._inputs = _factor(node, taken["weight"].argument) if "weight" in taken else torch.zeros(())

    def contribution(self, attribute: str, value: torch.Tensor) -> torch.Tensor:
        return self._inputs * value if attribute == "weight" else value

    def accumulator(self, wanted: frozenset[str]) -> Accumulator:
        inputs = self._layout.by_unit(self._inputs.expand(self._layout.shape))
        return _Arranged(FactorSquares(None, inputs, wanted), self._layout.by_unit)


class Convolution:
    """A two-dimensional convolution."""

    def __init__(self, node: Node, _layout: Layout, taken: Taken) -> None:
        self._settings = node._saved_stride, node._saved_padding, node._saved_dilation, node._saved_groups
        self._inputs = node._saved_input.detach()
        self._shape = taken["weight"].shape

    def contribution(self, attribute: str, value: torch.Tensor) -> torch.Tensor:
        if attribute == "bias":
            return value[:, None, None]
        return functional.conv2d(self._inputs, value, None, *self._settings)

    def accumulator(self, wanted: frozenset[str]) -> Accumulator:
        outputs, inputs, height, width = self._shape
        groups = self._settings[-1]
        module = nn.Conv2d(inputs * groups, outputs, (height, width), *self._settings, bias=False, device="meta")
        return ConvolutionSquares(module, self._inputs, wanted)


class Table:
    """Rows of a table."""

    def __init__(self, node: Node, layout: Layout, taken: Taken) -> None:
        self._layout = layout
        self._indices = node._saved_indices
        self._shape = taken["weight"].shape
        padding = node._saved_padding_idx  # none is a number beyond the table
        self._padding = padding if 0 <= padding < self._shape[0] else None

    def contribution(self, attribute: str, value: torch.Tensor) -> torch.Tensor:
        return functional.embedding(self._indices, value)

    def accumulator(self, wanted: frozenset[str]) -> Accumulator:
        rows, width = self._shape
        module = nn.Embedding(rows, width, self._padding, _weight=torch.empty(self._shape, device="meta"))
        return _Arranged(EmbeddingSquares(module, self._rows_of_examples(), wanted), self._layout.by_unit)

    def add_gradient(self, total: torch.Tensor, example: int, delta: torch.Tensor) -> None:
        """Add the table's gradient of one example, which cotangents of its outputs make, of shape (positions, units)."""
        rows = self._rows_of_examples()[example]
        counted = delta if self._padding is None else delta.masked_fill((rows == self._padding)[:, None], 0)
        total.index_add_(0, rows, counted)

    def _rows_of_examples(self) -> torch.Tensor:
        return self._layout.by_unit(self._indices[..., None])[..., 0]


ADDING = (Product, Table)
"""What adds the gradient of an example in its weight to that of other operations."""


class Kind(NamedTuple):
    """A kind of operation.

    Parameters
    ----------
    affine
        What it computes, from its node, its layout and its parameters.
    attributes
        Which of its arguments are a weight or a bias.
    units
        The axis of its output units; None: as many of the last ones as the parameter has.
    applies
        Whether a node of this name is of this kind, and takes these parameters.
    """

    affine: Callable[[Node, Layout, Taken], Affine]
    attributes: Mapping[int, str]
    units: int | None = None
    applies: Callable[[Node, Taken], bool] = lambda _node, _taken: True


def _adds_one_bias(node: Node, taken: Taken) -> bool:
    """Whether the summand of a product is the same for all rows, and neither has a factor."""
    plain = bool(node._saved_alpha == node._saved_beta == 1)
    return plain and ("bias" not in taken or taken["bias"].shape.numel() == result_shape(node, 0)[-1])


KINDS = {
    "AddmmBackward0": Kind(Product, {0: "bias", 2: "weight"}, -1, _adds_one_bias),
    "MmBackward0": Kind(Product, {1: "weight"}, -1),
    "BmmBackward0": Kind(Product, {1: "weight"}, -1, lambda _, taken: taken["weight"].shape[0] == 1),
    "MulBackward0": Kind(Factor, {0: "weight", 1: "weight"}),
    "AddBackward0": Kind(Factor, {0: "bias", 1: "bias"}, applies=lambda node, _: node._saved_alpha == 1),
    "ExpandBackward0": Kind(Factor, {0: "bias"}),
    "NativeLayerNormBackward0": Kind(Factor, {1: "weight", 2: "bias"}),
    "ConvolutionBackward0": Kind(
        Convolution,
        {1: "weight", 2: "bias"},
        1,
        lambda node, taken: "weight" in taken and len(node._saved_stride) == 2 and not node._saved_transposed,
    ),
    "EmbeddingBackward0": Kind(
        Table, {0: "weight"}, -1, lambda node, _: not (node._saved_sparse or node._saved_scale_grad_by_freq)
    ),
}
"""Kinds of operations, by the names of their nodes."""


class _Arranged:
    """Squares from cotangents that are arranged first, and then turned into the layout of the parameters."""

    def __init__(
        self,
        squares: Accumulator,
        arrange: Callable[[torch.Tensor], torch.Tensor],
        turned: Callable[[torch.Tensor], torch.Tensor] = lambda weight: weight,
    ) -> None:
        self._squares = squares
        self._arrange = arrange
        self._turned = turned

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        one = self._arrange(left)
        self._squares.add(signs, one, one if right is left else self._arrange(right))

    def totals(self) -> dict[str, torch.Tensor]:
        totals = self._squares.totals()
        return {name: self._turned(total) if name == "weight" else total for name, total in totals.items()}


def _factor(node: Node, weight: int) -> torch.Tensor:
    """What the weight is multiplied with."""
    if node.name() == "MulBackward0":
        factor: torch.Tensor = node._saved_self if weight else node._saved_other
        return factor.detach()
    normalized: torch.Tensor = (node._saved_input.detach() - node._saved_result1) * node._saved_result2
    return normalized
