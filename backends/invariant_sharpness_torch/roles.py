"""How parameters enter a model: the axes of those whose module does not tell them, from the operations of one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from invariant_sharpness.adapters.data import PASS_SEED, Dataset
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.protocol import ParameterGroup

Axes = tuple[int, ...]

_RIGHT_FACTOR = {"aten::mm": 1, "aten::addmm": 2, "aten::bmm": 1, "aten::baddbmm": 2}
"""Which argument of these is the right factor of the product; the one before it is the left factor."""


def uses(
    engine: Engine[Any], parameters: Mapping[str, torch.Tensor], dataset: Dataset[Any]
) -> dict[str, ParameterGroup | None]:
    """Run the model once, on the first batch, and say what each of these parameters is used as.

    None stands for a parameter that is used in two ways. Those that enter in no matrix product, convolution or table as they are,
    such as normalized ones, are absent.
    """
    found: dict[str, ParameterGroup | None] = {}
    with engine.random_state(PASS_SEED, dataset.batches.source), engine.at(engine.parameters()) as point:
        batch = next(iter(dataset))
        with _Uses(parameters, found):
            point.evaluate(batch)
    return found


class _Uses(TorchDispatchMode):
    """Looks at every operation below autograd, where layers of all kinds are the same few."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], found: dict[str, ParameterGroup | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters = {_storage(p): (name, p.detach()) for name, p in parameters.items()}
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._look(func._schema.name, args)
        return func(*args, **(kwargs or {}))

    def _look(self, operation: str, arguments: Any) -> None:
        if operation == "aten::convolution":
            self._note(arguments[1], lambda name, shape, axes: _kernel(name, shape, axes, *arguments[6:9:2]))
        if operation == "aten::embedding":
            self._note(
                arguments[0], lambda name, shape, axes: ParameterGroup(name, shape, "embedding", axes[1], axes[0])
            )
        if operation in _RIGHT_FACTOR:
            right = _RIGHT_FACTOR[operation]
            self._note(
                arguments[right - 1], lambda name, shape, axes: _factor(name, shape, axes[:-2], axes[-2], axes[-1])
            )
            self._note(arguments[right], lambda name, shape, axes: _factor(name, shape, axes[:-2], axes[-1], axes[-2]))

    def _note(self, operand: Any, described: Any) -> None:
        name, parameter = self._parameters.get(_storage(operand), ("", None))
        axes = None if parameter is None else _axes(operand, parameter)
        if parameter is None or axes is None:
            return
        group: ParameterGroup = described(name, tuple(parameter.shape), axes)
        if not (group.output_axes and group.input_axes):  # a single row or column, whose axis has no stride of its own
            return
        self._found[name] = group if self._found.get(name, group) == group else None


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _axes(operand: torch.Tensor, parameter: torch.Tensor) -> tuple[Axes, ...] | None:
    """The axes of the parameter along each axis of a view of all of it; None if this is no such view."""
    if not parameter.is_contiguous() or operand.storage_offset() != parameter.storage_offset():
        return None
    left = [axis for axis, size in enumerate(parameter.shape) if size > 1]
    found: list[Axes] = []
    for size, stride in zip(operand.shape, operand.stride(), strict=True):
        run = _run(parameter, left, size, stride) if size > 1 and stride > 0 else ()
        if run is None:
            return None
        found.append(run)
        left = [axis for axis in left if axis not in run]
    return tuple(found) if not left else None


def _run(parameter: torch.Tensor, left: list[int], size: int, stride: int) -> Axes | None:
    """The neighboring axes that together have this size, the last of which has this stride."""
    last = next((axis for axis in left if parameter.stride(axis) == stride), None)
    if last is None:
        return None
    for first in range(last, -1, -1):
        if prod(parameter.shape[first : last + 1]) == size:
            return tuple(axis for axis in range(first, last + 1) if parameter.shape[axis] > 1)
    return None


def _kernel(name: str, shape: tuple[int, ...], axes: tuple[Axes, ...], transposed: bool, groups: int) -> ParameterGroup:  # noqa: FBT001
    """A kernel as convolutions take it; axes of one entry stay where they are."""
    outputs, inputs = (axes[place] or (place,) for place in ((1, 0) if transposed else (0, 1)))
    return ParameterGroup(name, shape, "convolution", outputs, inputs, groups, "output" if transposed else "input")


def _factor(name: str, shape: tuple[int, ...], batch: tuple[Axes, ...], outputs: Axes, inputs: Axes) -> ParameterGroup:
    """A factor of a product of matrices, or of one product for each of its own leading axes, as those of experts are.

    A kernel that was unfolded into a matrix stays a convolution: its axes say so.
    """
    stacked = tuple(axis for run in batch for axis in run)
    if len(shape) > 3 and not stacked and (outputs, inputs[:1]) == ((0,), (1,)):
        return ParameterGroup(name, shape, "convolution", (0,), (1,))
    groups = prod(shape[axis] for axis in stacked)
    return ParameterGroup(name, shape, "matrix", (*stacked, *outputs), inputs, groups)
