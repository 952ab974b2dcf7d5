"""Operations on activations and a parameter, with a row of their result for each example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

import jax

Operation = Literal["dot_general", "conv_general_dilated", "gather", "sum", "product"]

_ELEMENTWISE: dict[str, Operation] = {"add": "sum", "add_any": "sum", "sub": "sum", "mul": "product"}


class Axes(NamedTuple):
    """Where the result of an operation counts what.

    Parameters
    ----------
    example
        The axis that counts examples.
    units
        The axes that count output units, in the order in which rules want them. All others count positions.
    """

    example: int
    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The site whose result a value is, with its entries in another layout, and how it got there."""

    name: str
    path: Callable[[jax.Array], jax.Array]


@dataclass(frozen=True, slots=True)
class Site:
    """One operation on activations and a parameter.

    Parameters
    ----------
    name
        Of the parameter.
    operation
        What is done.
    options
        The parameters of the primitive.
    path
        From the parameter to the operand.
    operand
        Shape of that operand.
    output
        Shape and dtype of the result.
    axes
        What the axes of the result count; the first axis of the activations counts examples.
    source
        Where the activations come from, if they are nothing but the result of another site.
    """

    name: str
    operation: Operation
    options: dict[str, Any]
    path: Callable[[jax.Array], jax.Array]
    operand: tuple[int, ...]
    output: jax.ShapeDtypeStruct
    axes: Axes
    source: Source | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of examples, of positions, and of output units."""
        sizes = self.output.shape
        examples, units = sizes[self.axes.example], prod(sizes[axis] for axis in self.axes.units)
        return examples, prod(sizes[axis] for axis in self._positions), units

    def by_unit(self, result: jax.Array) -> jax.Array:
        """The result in the shape (examples, positions, output units)."""
        return result.transpose(self._order).reshape(self.shape)

    def in_layout(self, units: jax.Array) -> jax.Array:
        """Undo ``by_unit``."""
        order = self._order
        back = sorted(range(len(order)), key=lambda axis: order[axis])
        return units.reshape([self.output.shape[axis] for axis in order]).transpose(back)

    @property
    def _positions(self) -> tuple[int, ...]:
        """The axes that count positions: those of a convolution in its own order."""
        if self.operation == "conv_general_dilated":
            return tuple(self.options["dimension_numbers"].out_spec[2:])
        counted = (self.axes.example, *self.axes.units)
        return tuple(axis for axis in range(len(self.output.shape)) if axis not in counted)

    @property
    def _order(self) -> tuple[int, ...]:
        return (self.axes.example, *self._positions, *self.axes.units)


def rule(
    equation: Any, operand: tuple[int, ...], *, rearranged: bool, parameter_first: bool
) -> tuple[Operation, Axes] | None:
    """Return the operation, if there is a rule for it, and what the axes of its result count.

    Parameters
    ----------
    equation
        One of two operands: activations, whose first axis counts examples, and a function of a parameter.
    operand
        Shape of the latter.
    rearranged
        Whether that is the parameter in another layout.
    parameter_first
        Whether it is the first operand.
    """
    name, options, rank = equation.primitive.name, equation.params, len(equation.outvars[0].aval.shape)
    if name in _ELEMENTWISE and operand[:1] in ((), (1,)):
        spread = rank - len(operand)
        return _ELEMENTWISE[name], Axes(0, tuple(spread + axis for axis, size in enumerate(operand) if size != 1))
    if not rearranged:
        return None
    if name == "dot_general":
        return _matrix_rule(options["dimension_numbers"], operand, rank, parameter_first=parameter_first)
    if name == "conv_general_dilated" and not parameter_first:
        numbers = options["dimension_numbers"]
        plain = options["batch_group_count"] == 1 and numbers.lhs_spec[0] == numbers.out_spec[0] == 0
        return ("conv_general_dilated", Axes(0, (numbers.out_spec[1],))) if plain else None
    if name == "gather" and parameter_first:
        return _table_rule(options, operand, rank)
    return None


def _matrix_rule(
    numbers: Any, operand: tuple[int, ...], rank: int, *, parameter_first: bool
) -> tuple[Operation, Axes] | None:
    """A matrix product: the free axes of the first operand, then those of the second, are those of the result."""
    contracted, batch = numbers
    if batch[0] or 0 in contracted[parameter_first]:
        return None
    free = len(operand) - len(contracted[0])
    units = range(free) if parameter_first else range(rank - free, rank)
    return "dot_general", Axes(free if parameter_first else 0, tuple(units))


def _table_rule(options: dict[str, Any], operand: tuple[int, ...], rank: int) -> tuple[Operation, Axes] | None:
    """Whole rows of a table, one for each index."""
    numbers, units = options["dimension_numbers"], tuple(range(rank - len(operand) + 1, rank))
    rows = numbers.collapsed_slice_dims == numbers.start_index_map == (0,) and not numbers.operand_batching_dims
    whole = tuple(options["slice_sizes"]) == (1, *operand[1:]) and tuple(numbers.offset_dims) == units
    return ("gather", Axes(0, units)) if rows and whole and units and units[0] > 0 else None
