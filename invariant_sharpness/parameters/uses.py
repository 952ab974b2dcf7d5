"""What a parameter is, told by the operations in which it enters: a convolution, a product of matrices, a table.

Programs move and merge the axes of a parameter before they use it; an :class:`Operand` keeps track of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from math import prod
from typing import Literal, NamedTuple

from invariant_sharpness.parameters.groups import ParameterGroup

Axes = tuple[int, ...]
Use = tuple[str, ParameterGroup | None]
"""A parameter's name, and what it is used as; None where that tells nothing of its axes."""


class Operand(NamedTuple):
    """A parameter in another layout: which of its axes lie along each axis; none along one that was put in."""

    name: str
    shape: Axes
    axes: tuple[Axes, ...]

    @classmethod
    def of(cls, name: str, shape: Iterable[int]) -> Operand:
        """Return the parameter as it is."""
        sizes = tuple(shape)
        return cls(name, sizes, tuple((axis,) for axis in range(len(sizes))))

    def transposed(self, order: Iterable[int]) -> Operand:
        """Return it with its axes in this order."""
        return self._replace(axes=tuple(self.axes[place] for place in order))

    def reshaped(self, sizes: Iterable[int]) -> Operand | None:
        """Return it with axes of these lengths, if neighbors among the parameter's own lie along each of them."""
        left = [axis for run in self.axes for axis in run if self.shape[axis] > 1]
        axes: list[Axes] = []
        for size in sizes:
            run: list[int] = []
            while left and _length(run, self.shape) < size:
                run.append(left.pop(0))
            if _length(run, self.shape) != size:
                return None
            axes.append(tuple(run))
        return self._replace(axes=tuple(axes))


def as_factor(name: str, shape: Axes, stacked: Sequence[Axes], outputs: Sequence[Axes], inputs: Sequence[Axes]) -> Use:
    """Describe a factor of a product of matrices, or of one product for each of its own leading axes, as those of experts are."""
    first = tuple(chain(*stacked))
    return _use(name, shape, "matrix", (*first, *chain(*outputs)), tuple(chain(*inputs)), _length(first, shape))


def as_kernel(
    name: str, shape: Axes, outputs: Axes, inputs: Axes, groups: int, divided: Literal["input", "output"] = "input"
) -> Use:
    """Describe the kernel of a convolution with channel groups; that of a depthwise one has both axes along the outputs."""
    if not inputs and len(outputs) == 2 and shape[outputs[0]] == groups:
        return _use(name, shape, "convolution", outputs[1:], outputs[:1], groups, "output")
    return _use(name, shape, "convolution", outputs, inputs, groups, divided)


def as_table(name: str, shape: Axes, rows: Axes, entries: Axes) -> Use:
    """Describe a table of which rows are looked up."""
    return _use(name, shape, "embedding", entries, rows)


def told_alike(uses: Iterable[Use], names: Collection[str]) -> tuple[ParameterGroup, ...]:
    """Return the descriptions of those of these parameters that are used in one way alone."""
    found: dict[str, set[ParameterGroup | None]] = {}
    for name, group in uses:
        found.setdefault(name, set()).add(group)
    alone = [next(iter(groups)) for name, groups in found.items() if name in names and len(groups) == 1]
    return tuple(group for group in alone if group is not None)


def _use(
    name: str,
    shape: Axes,
    role: Literal["matrix", "convolution", "embedding"],
    outputs: Axes,
    inputs: Axes,
    groups: int = 1,
    divided: Literal["input", "output"] = "input",
) -> Use:
    """Axes of length one may have been left out on the way, and then any of them is the one that is missing."""
    left_out = [axis for axis, size in enumerate(shape) if size == 1 and axis not in {*outputs, *inputs}]
    outputs = outputs or tuple(left_out[:1])
    inputs = inputs or tuple(axis for axis in left_out if axis not in outputs)[:1]
    if not outputs or not inputs or {*outputs} & {*inputs}:
        return name, None
    return name, ParameterGroup(name, shape, role, outputs, inputs, groups, divided)


def _length(axes: Iterable[int], shape: Axes) -> int:
    return prod(shape[axis] for axis in axes)
