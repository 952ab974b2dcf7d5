r"""Squared gradients of single examples at the sites of a model, without holding those of all examples.

With cotangents :math:`\delta_n` of a site's result and activations :math:`a_n`, the gradient of an example in a kernel is
:math:`\sum_p \delta_{np} a_{np}^T` over its positions p. Where there is one position, terms can be added before the product:
:math:`\sum_{nk} s_{nk} (\delta_{nk} a_n^T)^2 = (\sum_k s_{nk} \delta_{nk}^2)^T (a_n^2)`, one matrix product in all.
"""

from __future__ import annotations

from math import prod
from typing import Protocol

import jax
import jax.numpy as jnp

from invariant_sharpness_jax.layer_sites import Site
from invariant_sharpness_jax.precision import held
from invariant_sharpness_jax.room import Room


class Squares(Protocol):
    """Adds up :math:`s_n (d_n)^2` over terms, where :math:`d_n` is the gradient of an example.

    In the type in which the parameter is held: the squares of float16 would overflow.
    """

    def start(self) -> jax.Array:
        """Nothing yet."""
        ...

    def add(self, total: jax.Array, signs: jax.Array, delta: jax.Array, /) -> jax.Array:
        """Add a term: signs ``(n,)`` and cotangents of the site's result."""
        ...

    def finish(self, total: jax.Array, /) -> jax.Array:
        """The sums, in the shape of the parameter."""
        ...


def squares_at(site: Site, activations: jax.Array, parameter: jax.Array, room: Room) -> Squares:
    """The rule for the operation of a site."""
    if site.operation == "dot_general":
        rows = _Matrices(site, activations, parameter)
        return _SinglePosition(rows) if rows.positions == 1 else _Positions(rows, room)
    if site.operation == "conv_general_dilated":
        return _Positions(_Patches(site, activations, parameter), room)
    return _Elementwise(site, activations, parameter)


class _Matrices:
    """A matrix product: positions are the axes of the activations that are neither contracted nor count examples."""

    groups = 1

    def __init__(self, site: Site, activations: jax.Array, parameter: jax.Array) -> None:
        left, right = site.options["dimension_numbers"][0]
        contracted, own = (left, right) if site.axis == 0 else (right, left)
        free = [axis for axis in range(1, activations.ndim) if axis not in contracted]
        self._site, self._parameter, self._own, self.dtype = site, parameter, own, parameter.dtype
        self.positions = prod(activations.shape[axis] for axis in free)
        moved = activations.transpose(0, *free, *contracted)
        self.inputs = moved.reshape(len(activations), 1, self.positions, -1)
        self.outputs = prod(site.output.shape) // (len(activations) * self.positions)

    def rows(self, delta: jax.Array) -> jax.Array:
        """Cotangents of shape (examples, groups, positions, outputs)."""
        examples = delta.shape[self._site.axis]
        if self._site.axis == 0:
            return delta.reshape(examples, 1, self.positions, -1)
        rows = jnp.moveaxis(delta.reshape(-1, examples, self.positions), 0, -1)
        return rows[:, None]

    def squares(self, total: jax.Array) -> jax.Array:
        """From (groups, outputs, inputs) to the parameter."""
        shape, own = self._site.operand, self._own
        free = [axis for axis in range(len(shape)) if axis not in own]
        ordered = total.reshape([shape[axis] for axis in (*free, *own)])
        back = sorted(range(len(shape)), key=lambda axis: (*free, *own)[axis])
        return _in_layout(self._site, ordered.transpose(back), self._parameter)


class _Patches:
    """A convolution: a matrix product with the patches at each position, channel group by channel group."""

    def __init__(self, site: Site, activations: jax.Array, parameter: jax.Array) -> None:
        options = site.options
        self._site, self._parameter, self.dtype = site, parameter, parameter.dtype
        self._spec = options["dimension_numbers"]
        self.groups = options["feature_group_count"]
        kernel = [site.operand[axis] for axis in self._spec.rhs_spec[2:]]
        patches = jax.lax.conv_general_dilated_patches(
            activations.transpose(self._spec.lhs_spec),
            kernel,
            options["window_strides"],
            options["padding"],
            lhs_dilation=options["lhs_dilation"],
            rhs_dilation=options["rhs_dilation"],
        )
        self.positions = prod(patches.shape[2:])
        grouped = patches.reshape(len(patches), self.groups, -1, self.positions)
        self.inputs = grouped.swapaxes(2, 3)
        self.outputs = site.operand[self._spec.rhs_spec[0]] // self.groups

    def rows(self, delta: jax.Array) -> jax.Array:
        """Cotangents of shape (examples, groups, positions, outputs)."""
        moved = delta.transpose(self._spec.out_spec)
        return moved.reshape(len(delta), self.groups, -1, self.positions).swapaxes(2, 3)

    def squares(self, total: jax.Array) -> jax.Array:
        """From (groups, outputs, inputs) to the parameter."""
        ordered = total.reshape([self._site.operand[axis] for axis in self._spec.rhs_spec])
        return _in_layout(self._site, jnp.moveaxis(ordered, range(ordered.ndim), self._spec.rhs_spec), self._parameter)


class _SinglePosition:
    """One position: terms are added before the product."""

    def __init__(self, rows: _Matrices) -> None:
        self._rows = rows

    def start(self) -> jax.Array:
        return jnp.zeros((len(self._rows.inputs), self._rows.outputs), self._rows.dtype)

    def add(self, total: jax.Array, signs: jax.Array, delta: jax.Array, /) -> jax.Array:
        return total + signs[:, None] * held(self._rows.rows(delta)[:, 0, 0]) ** 2

    def finish(self, total: jax.Array, /) -> jax.Array:
        return self._rows.squares((total.T @ held(self._rows.inputs[:, 0, 0]) ** 2)[None])


class _Positions:
    """Many positions: their sum comes before the square, term by term."""

    def __init__(self, rows: _Matrices | _Patches, room: Room) -> None:
        self._rows, self._room = rows, room

    def start(self) -> jax.Array:
        return jnp.zeros((self._rows.groups, self._rows.outputs, self._rows.inputs.shape[3]), self._rows.dtype)

    def add(self, total: jax.Array, signs: jax.Array, delta: jax.Array, /) -> jax.Array:
        inputs, rows = self._rows.inputs, self._rows.rows(delta)
        step = self._room.examples(inputs.shape[1] * inputs.shape[3] * rows.shape[3])
        for start in range(0, len(signs), step):
            part = slice(start, start + step)
            gradients = jnp.einsum("ngpo,ngpi->ngoi", rows[part], inputs[part], preferred_element_type=total.dtype)
            total = total + jnp.einsum("n,ngoi->goi", signs[part], gradients**2)
        return total

    def finish(self, total: jax.Array, /) -> jax.Array:
        return self._rows.squares(total)


class _Elementwise:
    """A sum or a product with activations, such as a bias or a gain: each example's part is spread back to the parameter."""

    def __init__(self, site: Site, activations: jax.Array, parameter: jax.Array) -> None:
        self._site, self._activations, self._parameter = site, activations, parameter

    def start(self) -> jax.Array:
        return jnp.zeros_like(self._parameter)

    def add(self, total: jax.Array, signs: jax.Array, delta: jax.Array, /) -> jax.Array:
        slopes = held(delta) if self._site.operation == "sum" else held(delta) * self._activations
        operand, pullback = jax.vjp(self._site.path, self._parameter)

        def of_example(slope: jax.Array) -> jax.Array:
            """The gradient of one example: its slopes, added up where the operand is spread."""
            axes = [axis for axis in range(slope.ndim) if axis >= slope.ndim - operand.ndim]
            spread = [axis for axis in axes if operand.shape[axis - slope.ndim] == 1]
            summed = slope.sum(axis=[*range(slope.ndim - operand.ndim), *spread]).reshape(operand.shape)
            return pullback(summed.astype(operand.dtype))[0]

        return total + jnp.tensordot(signs, jax.vmap(of_example)(slopes[:, None]) ** 2, axes=1)

    def finish(self, total: jax.Array, /) -> jax.Array:
        return total


def _in_layout(site: Site, operand: jax.Array, parameter: jax.Array) -> jax.Array:
    """From the layout of the operand to that of the parameter: a path that only rearranges is its own inverse's transpose."""
    _, pullback = jax.vjp(site.path, parameter)
    return pullback(operand)[0]
