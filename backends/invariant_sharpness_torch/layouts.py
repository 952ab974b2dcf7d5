"""Where examples, positions and output units are in a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch


def layouts(shape: torch.Size, units: tuple[int, ...], examples: int) -> Iterator[Layout]:
    """Yield all places where a tensor with these axes of units may have so many examples."""
    for axis, size in enumerate(shape):
        if axis not in units and size and size % examples == 0:
            for last in (False, True) if 1 < examples < size else (False,):
                yield Layout(shape, units, examples, axis, last)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where they are in the outputs of an operation.

    Parameters
    ----------
    shape
        Of the outputs.
    units
        The axes of output units.
    examples
        How many there are.
    axis
        The axis that counts them, and positions with them if it is longer.
    last
        Whether the positions of this axis come before its examples.
    """

    shape: torch.Size
    units: tuple[int, ...]
    examples: int
    axis: int
    last: bool = False

    def by_unit(self, tensor: torch.Tensor) -> torch.Tensor:
        """Arrange a tensor with these axes, of other units perhaps, as (examples, positions, units)."""
        moved = tensor.unflatten(self.axis, (-1, self.examples) if self.last else (self.examples, -1))
        moved = moved.permute(self._order)
        count = len(self.units)
        moved = moved.flatten(-count) if count else moved[..., None]
        return moved.flatten(1, -2)

    def back(self, by_unit: torch.Tensor) -> torch.Tensor:
        """Undo ``by_unit``."""
        positions, sizes = self.shape[self.axis] // self.examples, list(self.shape)
        sizes[self.axis : self.axis + 1] = (positions, self.examples) if self.last else (self.examples, positions)
        moved = by_unit.reshape([sizes[axis] for axis in self._order])
        return moved.permute(sorted(range(len(sizes)), key=self._order.index)).reshape(self.shape)

    @property
    def _order(self) -> tuple[int, ...]:
        """The axes of examples, positions and units, where the examples have one of their own."""
        examples = self.axis + self.last
        units = tuple(axis + (axis > self.axis) for axis in self.units)
        positions = (axis for axis in range(len(self.shape) + 1) if axis != examples and axis not in units)
        return (examples, *positions, *units)
