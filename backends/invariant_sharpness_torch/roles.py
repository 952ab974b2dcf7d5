"""How parameters enter a model: the axes of those whose module does not tell them, from the operations of one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, islice
from math import prod
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from invariant_sharpness.adapters.data import PASS_SEED, Dataset
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.parameters.uses import Axes, Operand, Use, as_factor, as_kernel, as_table
from invariant_sharpness.protocol import ParameterGroup

_RIGHT_FACTOR = {"aten::mm": 1, "aten::addmm": 2, "aten::bmm": 1, "aten::baddbmm": 2}
"""Which argument of these is the right factor of the product; the one before it is the left factor."""

_COPYING = ("aten::clone", "aten::_to_copy")


def uses(
    engine: Engine[Any], parameters: Mapping[str, torch.Tensor], dataset: Dataset[Any]
) -> dict[str, ParameterGroup | None]:
    """Run the model once, on the first batch, and say what each of these parameters is used as.

    None stands for a parameter that is used in two ways, or is multiplied with another one, so that its axes are those of no layer.
    Those that enter in no matrix product, convolution or table as they are, such as normalized ones, are absent.
    """
    state = engine.random_state(PASS_SEED, dataset.batches.source)
    with state, engine.at(engine.parameters()) as point, _Uses(parameters) as looking:
        for batch in islice(dataset, 1):
            point.evaluate(batch)
    return looking.found


class _Held(NamedTuple):
    """Memory that has all entries of a parameter once: a tensor of all of it, and the parameter's axes along the tensor's."""

    tensor: torch.Tensor
    operand: Operand


class _Uses(TorchDispatchMode):
    """Looks at every operation below autograd, where layers of all kinds are the same few."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, ParameterGroup | None] = {}
        self._held = {_storage(p): _Held(p.detach(), Operand.of(name, p.shape)) for name, p in parameters.items()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation: str = func._schema.name
        result = func(*args, **(kwargs or {}))
        if operation in _COPYING and (own := self._operand(args[0])) is not None:
            self._held[_storage(result)] = _Held(result, own)
        for name, group in self._described(operation, args):
            self.found[name] = group if self.found.get(name, group) == group else None
        return result

    def _described(self, operation: str, arguments: Any) -> list[Use]:
        if operation == "aten::convolution":
            return self._with(arguments[1], lambda own: _kernel(own, *arguments[6:9:2]))
        if operation == "aten::embedding":
            return self._with(arguments[0], lambda own: as_table(own.name, own.shape, *own.axes))
        if operation not in _RIGHT_FACTOR:
            return []
        left, right = arguments[_RIGHT_FACTOR[operation] - 1 :][:2]
        factors = [
            *self._with(left, lambda own: _factor(own, own.axes[-2], own.axes[-1])),
            *self._with(right, lambda own: _factor(own, own.axes[-1], own.axes[-2])),
        ]
        return factors if len(factors) == 1 else [(name, None) for name, _ in factors]

    def _with(self, tensor: torch.Tensor, described: Callable[[Operand], Use]) -> list[Use]:
        own = self._operand(tensor)
        return [] if own is None else [described(own)]

    def _operand(self, tensor: Any) -> Operand | None:
        """The parameter that a tensor is all of, and its axes."""
        held = self._held.get(_storage(tensor)) if isinstance(tensor, torch.Tensor) else None
        if held is None:
            return None
        # The axes of what is held, from the longest stride to the shortest: neighbors among them may lie along one axis of a view.
        order = sorted(range(held.tensor.ndim), key=lambda axis: -held.tensor.stride()[axis])
        runs = _runs(tensor, held.tensor.permute(order))
        if runs is None:
            return None
        axes = tuple(tuple(chain(*(held.operand.axes[order[place]] for place in run))) for run in runs)
        return held.operand._replace(axes=axes)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _runs(view: torch.Tensor, whole: torch.Tensor) -> tuple[Axes, ...] | None:
    """The axes of a contiguous tensor along each axis of a view of all of it; None if this is no such view."""
    if not whole.is_contiguous() or view.storage_offset() != whole.storage_offset():
        return None
    left = [axis for axis, size in enumerate(whole.shape) if size > 1]
    found: list[Axes] = []
    for size, stride in zip(view.shape, view.stride(), strict=True):
        run = _run(whole, left, size, stride) if size > 1 and stride > 0 else ()
        if run is None:
            return None
        found.append(run)
        left = [axis for axis in left if axis not in run]
    return tuple(found) if not left else None


def _run(whole: torch.Tensor, left: list[int], size: int, stride: int) -> Axes | None:
    """The neighboring axes that together have this size, the last of which has this stride."""
    last = next((axis for axis in left if whole.stride(axis) == stride), None)
    if last is None:
        return None
    for first in range(last, -1, -1):
        if prod(whole.shape[first : last + 1]) == size:
            return tuple(axis for axis in range(first, last + 1) if whole.shape[axis] > 1)
    return None


def _kernel(own: Operand, transposed: bool, groups: int) -> Use:  # noqa: FBT001
    outputs, inputs = own.axes[:2][::-1] if transposed else own.axes[:2]
    return as_kernel(own.name, own.shape, outputs, inputs, groups, "output" if transposed else "input")


def _factor(own: Operand, outputs: Axes, inputs: Axes) -> Use:
    """A factor of a product of matrices. A kernel that was unfolded into a matrix stays a convolution: its axes say so."""
    stacked = [run for run in own.axes[:-2] if run]
    if len(own.shape) > 3 and not stacked and (outputs, inputs[:1]) == ((0,), (1,)):
        return own.name, ParameterGroup(own.name, own.shape, "convolution", (0,), (1,))
    return as_factor(own.name, own.shape, stacked, [outputs], [inputs])
