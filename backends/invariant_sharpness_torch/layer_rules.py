"""How a layer turns inputs and output cotangents into squared gradients of each example, or into products of two gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_torch.half_precision import held

_ENTRIES = {"cpu": 2**20}
_ENTRIES_ELSEWHERE = 2**23
"""Per-example gradients are made for so many examples at once that they have about this many entries, or fewer if memory is limited: on a CPU they stay in its cache."""


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Their subclasses may move axes, and take the rule of any other layer."""


class Accumulator(Protocol):
    """Adds up ``s_n d_n e_n`` over terms, where ``d_n`` and ``e_n`` are an example's gradients in the layer's parameters.

    In single precision at least: the squares of float16 would overflow.
    """

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        """Add a term: signed weights ``(n,)``, and the cotangents of the layer's outputs that make d and e; one tensor twice for squares."""
        ...

    def totals(self) -> dict[str, torch.Tensor]:
        """The sums, by attribute of the module."""
        ...


LayerRule = Callable[[nn.Module, torch.Tensor, frozenset[str]], Accumulator]
"""``(module, its inputs, wanted attributes) -> accumulator``."""


def rule_for(module: nn.Module) -> LayerRule | None:
    """The rule for a module; None if only the general path is right."""
    if type(module) is nn.Linear:
        return _linear_rule
    if type(module) is nn.Conv2d:
        return ConvolutionSquares
    if type(module) in _NORMS:
        return GainSquares
    if type(module) is nn.Embedding:
        return None if module.max_norm is not None or module.sparse else EmbeddingSquares
    return LeafSquares if isinstance(module, _EXAMPLE_WISE) else None


def _linear_rule(module: nn.Module, inputs: torch.Tensor, wanted: frozenset[str]) -> Accumulator:
    return DenseSquares(module, inputs, wanted) if inputs.ndim == 2 else SequenceSquares(module, inputs, wanted)


class DenseSquares:
    r"""A linear layer on single vectors: :math:`d_n = \delta_n a_n^T`, so terms can be added before the product.

    :math:`\sum_{nk} s_{nk} (\delta_{nk} a_n^T) \circ (\epsilon_{nk} a_n^T) = (\sum_k s_{nk} \delta_{nk} \circ \epsilon_{nk})^T (a_n^2)`: one matrix product in all.
    """

    def __init__(self, _module: nn.Module | None, inputs: torch.Tensor, wanted: frozenset[str]) -> None:
        self._inputs = inputs
        self._wanted = wanted
        self._squares: torch.Tensor | None = None

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        weighted = left * signs[:, None]
        self._squares = weighted.mul_(right) if self._squares is None else self._squares.addcmul_(weighted, right)

    def totals(self) -> dict[str, torch.Tensor]:
        if self._squares is None:
            return {}
        totals = {}
        if "weight" in self._wanted:
            totals["weight"] = self._squares.T @ held(self._inputs).square()
        if "bias" in self._wanted:
            totals["bias"] = self._squares.sum(dim=0)
        return totals


class _PositionSquares:
    """Layers whose example gradient is a matrix product over positions, ``d_n = sum_p delta_np a_np^T``."""

    def __init__(self, module: nn.Module | None, inputs: torch.Tensor, wanted: frozenset[str]) -> None:
        self._module = module
        self._inputs = inputs
        self._wanted = wanted
        self._totals: dict[str, torch.Tensor] = {}

    def totals(self) -> dict[str, torch.Tensor]:
        return self._totals

    def _add(
        self,
        attribute: str,
        signs: torch.Tensor,
        gradient: Callable[[torch.Tensor], torch.Tensor],
        left: torch.Tensor,
        right: torch.Tensor,
    ) -> None:
        """Add the products of the gradients that two cotangents make, new tensors of shape (n, ...)."""
        one = held(gradient(left))
        products = one.mul_(one if right is left else held(gradient(right)))
        total = (signs.to(products) @ products.reshape(len(signs), -1)).reshape(products.shape[1:])
        before = self._totals.get(attribute)
        self._totals[attribute] = total if before is None else before.add_(total)


class SequenceSquares(_PositionSquares):
    """A linear layer on sequences: the sum over positions comes before the square."""

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        inputs = self._inputs.flatten(1, -2)
        if "bias" in self._wanted:
            self._add("bias", signs, lambda delta: delta.flatten(1, -2).sum(dim=1), left, right)
        if "weight" in self._wanted:
            for part in _parts(left, left.shape[-1] * inputs.shape[2]):
                gradient = partial(_sequence_gradient, held(inputs[part]))
                self._add("weight", signs[part], gradient, *_cut(part, left, right))


class ConvolutionSquares(_PositionSquares):
    """A two-dimensional convolution: a linear layer on the patches of each position, channel group by channel group."""

    def __init__(self, module: nn.Module | None, inputs: torch.Tensor, wanted: frozenset[str]) -> None:
        super().__init__(module, inputs, wanted)
        self._patches: dict[int, torch.Tensor] = {}

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        assert isinstance(self._module, nn.Conv2d)
        groups, weight = self._module.groups, self._module.weight
        if "bias" in self._wanted:
            self._add("bias", signs, lambda delta: delta.flatten(2).sum(dim=2), left, right)
        if "weight" in self._wanted:
            entries = max(weight.numel(), weight[0].numel() * groups * left[0, 0].numel())
            for part in _parts(left, entries):
                gradient = partial(_kernel_gradient, weight.shape, self._patches_of(part))
                self._add("weight", signs[part], gradient, *_cut(part, left, right))

    def _patches_of(self, part: slice) -> torch.Tensor:
        """Input patches of some examples, of shape (n, groups, channels per group and offsets, positions)."""
        if part.start not in self._patches:
            module = self._module
            assert isinstance(module, nn.Conv2d)
            mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
            padded = functional.pad(held(self._inputs[part]), module._reversed_padding_repeated_twice, mode=mode)
            patches = functional.unfold(padded, module.kernel_size, module.dilation, 0, module.stride)
            self._patches[part.start] = patches.unflatten(1, (module.groups, -1))
        return self._patches[part.start]


class EmbeddingSquares(_PositionSquares):
    """An embedding: the gradients of a token's occurrences in one example are added before the square."""

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        assert isinstance(self._module, nn.Embedding)
        tokens, width = self._module.weight.shape
        # one number for each token of each example; equal ones lie together, in the order of their positions
        examples = torch.arange(len(signs), device=signs.device)[:, None]
        tokens_of = self._inputs.reshape(len(signs), -1)
        pairs, order = torch.sort((examples * tokens + tokens_of).flatten(), stable=True)
        # as many slots as positions: how many pairs differ is not read
        slot_of = torch.cat((pairs.new_zeros(1), (pairs[1:] != pairs[:-1]).cumsum(0)))
        slots = torch.zeros_like(pairs).scatter_(0, slot_of, pairs)
        # the gradients of each pair, multiplied, and added to its token

        def gradients(delta: torch.Tensor) -> torch.Tensor:
            return delta.new_zeros(len(slots), width).index_add_(0, slot_of, delta.reshape(-1, width)[order])

        one = gradients(left)
        products = (one * (one if right is left else gradients(right))).mul_(signs[slots // tokens, None])
        padding = self._module.padding_idx
        if padding is not None:
            products.masked_fill_((slots % tokens == padding)[:, None], 0)
        total = self._totals.setdefault("weight", left.new_zeros(tokens, width))
        total.index_add_(0, slots % tokens, products)


class FactorSquares(_PositionSquares):
    """A factor and a summand for each output unit, of shape (examples, positions, units)."""

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        if "bias" in self._wanted:
            self._add("bias", signs, lambda delta: delta.sum(dim=1), left, right)
        if "weight" in self._wanted:
            self._add("weight", signs, lambda delta: (held(self._inputs) * delta).sum(dim=1), left, right)


class GainSquares(_PositionSquares):
    """The gain and the shift of a normalization: the gain multiplies what the layer gives with a gain of one and no shift."""

    def __init__(self, module: nn.Module | None, inputs: torch.Tensor, wanted: frozenset[str]) -> None:
        super().__init__(module, inputs, wanted)
        assert module is not None
        own = dict(module.named_parameters(recurse=False))
        plain = {name: torch.ones_like(p) if name == "weight" else torch.zeros_like(p) for name, p in own.items()}
        self._normalized = held(functional_call(module, plain, inputs).detach())
        units = range(1, 2)
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            units = range(inputs.ndim - len(module.normalized_shape), inputs.ndim)
        self._positions = [axis for axis in range(1, inputs.ndim) if axis not in units]

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        if "bias" in self._wanted:
            self._add("bias", signs, self._summed, left, right)
        if "weight" in self._wanted:
            self._add("weight", signs, lambda delta: self._summed(self._normalized * delta), left, right)

    def _summed(self, delta: torch.Tensor) -> torch.Tensor:
        return delta.sum(dim=self._positions) if self._positions else delta.clone()


class LeafSquares(_PositionSquares):
    """Any other layer that treats each example by itself: its own backward pass, vectorized over the examples."""

    def add(self, signs: torch.Tensor, left: torch.Tensor, right: torch.Tensor, /) -> None:
        module = self._module
        assert module is not None
        own = dict(module.named_parameters(recurse=False))
        wanted = {name: own[name].detach() for name in self._wanted}

        def product(parameters: dict[str, torch.Tensor], example: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            return (functional_call(module, parameters, example[None]) * part[None]).sum()

        size = sum(parameter.numel() for parameter in wanted.values())
        for part in _parts(left, size):
            gradients = vmap(grad(product), in_dims=(None, 0, 0))
            ones = gradients(wanted, self._inputs[part], left[part])
            others = ones if right is left else gradients(wanted, self._inputs[part], right[part])
            for name, one in ones.items():
                self._add(name, signs[part], lambda own: own, one, others[name])


_EXAMPLE_WISE = (
    nn.Conv1d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    *_NORMS,
    nn.PReLU,
)


def _sequence_gradient(inputs: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    return delta.flatten(1, -2).mT @ inputs


def _kernel_gradient(shape: torch.Size, patches: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    return (delta.flatten(2).unflatten(1, (patches.shape[1], -1)) @ patches.mT).reshape(-1, *shape)


def _cut(part: slice, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take some examples of both; one tensor twice stays so."""
    one = left[part]
    return one, one if right is left else right[part]


def _parts(cotangents: torch.Tensor, entries: int) -> Iterator[slice]:
    """Slices of the examples, such that ``entries`` numbers for each of them stay within the bounds."""
    examples, most = len(cotangents), _ENTRIES.get(cotangents.device.type, _ENTRIES_ELSEWHERE)
    step = min(max(1, most // max(1, entries)), chunks_within_limit(entries * cotangents.dtype.itemsize))
    return (slice(start, min(start + step, examples)) for start in range(0, examples, step))
