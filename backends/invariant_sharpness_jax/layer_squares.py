r"""Squared gradients of single examples at the sites of a model, or products of two, without holding those of all examples.

With cotangents :math:`\delta_n` of a site's result and activations :math:`a_n`, the gradient of an example in a kernel is
:math:`\sum_p \delta_{np} a_{np}^T` over its positions p. Where there is one position, terms can be added before the product:
:math:`\sum_{nk} s_{nk} (\delta_{nk} a_n^T) \circ (\epsilon_{nk} a_n^T) = (\sum_k s_{nk} \delta_{nk} \circ \epsilon_{nk})^T (a_n^2)`, one matrix product in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from invariant_sharpness_jax.layer_sites import Layer, Member, Met
from invariant_sharpness_jax.precision import held
from invariant_sharpness_jax.room import Room
from invariant_sharpness_jax.sites import Site
from invariant_sharpness_jax.trees import Arrays


class ProductSums:
    """Adds up :math:`s_n d_n e_n` over terms, at all sites of some layers.

    Parameters
    ----------
    layers, met
        The layers, and what is met at their sites.
    arrays
        The parameters by name.
    room
        For gradients of single examples.
    """

    def __init__(self, layers: Sequence[Layer], met: Met, arrays: Arrays, room: Room) -> None:
        self._layer_of = {name: layer.name for layer in layers for name in layer.names}
        self._rules = {
            member.site.name: squares_at(member, met.activations[member.site.name], arrays[member.site.name], room)
            for layer in layers
            for member in layer.members
        }

    def start(self) -> Arrays:
        """Nothing yet, for each parameter."""
        return {name: rule.start() for name, rule in self._rules.items()}

    def add(
        self, totals: Arrays, signs: jax.Array, left: Mapping[str, jax.Array], right: Mapping[str, jax.Array]
    ) -> Arrays:
        """Add a term, from cotangents of the outputs of the layers by the names of these."""
        added: Arrays = {}
        for name, rule in self._rules.items():
            layer, total = self._layer_of[name], totals[name]
            added[name] = rule.add(total, signs, left[layer], right[layer]).astype(total.dtype)
        return added

    def finish(self, totals: Arrays) -> Arrays:
        """The sums, in the shapes of the parameters."""
        return {name: rule.finish(totals[name]) for name, rule in self._rules.items()}


class Squares(Protocol):
    """Adds up :math:`s_n d_n e_n` over terms, where :math:`d_n` and :math:`e_n` are gradients of an example.

    In the type in which the parameter is held: the squares of float16 would overflow.
    """

    def start(self) -> jax.Array:
        """Nothing yet."""
        ...

    def add(self, total: jax.Array, signs: jax.Array, left: jax.Array, right: jax.Array, /) -> jax.Array:
        """Add a term: signs ``(n,)``, and the cotangents that make d and e, of shape (n, positions, output units); one array twice for squares."""
        ...

    def finish(self, total: jax.Array, /) -> jax.Array:
        """The sums, in the shape of the parameter."""
        ...


def squares_at(member: Member, activations: jax.Array, parameter: jax.Array, room: Room) -> Squares:
    """The rule for the operation of a site."""
    site = member.site
    if site.operation == "dot_general":
        rows = _Matrices(site, activations, parameter)
        return _SinglePosition(rows) if rows.positions == 1 else _Positions(rows, room)
    if site.operation == "conv_general_dilated":
        return _Positions(_Patches(site, activations, parameter), room)
    if site.operation == "gather":
        return _Table(site, activations, parameter)
    return _Elementwise(member, activations, parameter)


class _Matrices:
    """A matrix product: positions are the axes of the activations that are neither contracted nor count examples."""

    groups = 1

    def __init__(self, site: Site, activations: jax.Array, parameter: jax.Array) -> None:
        left, right = site.options["dimension_numbers"][0]
        contracted, own = (left, right) if site.axes.example == 0 else (right, left)
        free = [axis for axis in range(1, activations.ndim) if axis not in contracted]
        self._site, self._parameter, self._own, self.dtype = site, parameter, own, parameter.dtype
        examples, self.positions, self.outputs = site.shape
        moved = activations.transpose(0, *free, *contracted)
        self.inputs = moved.reshape(examples, 1, self.positions, -1)

    def rows(self, delta: jax.Array) -> jax.Array:
        """Cotangents of shape (examples, groups, positions, outputs)."""
        return delta[:, None]

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
        examples, self.positions, channels = site.shape
        self.inputs = patches.reshape(examples, self.groups, -1, self.positions).swapaxes(2, 3)
        self.outputs = channels // self.groups

    def rows(self, delta: jax.Array) -> jax.Array:
        """Cotangents of shape (examples, groups, positions, outputs)."""
        return delta.reshape(len(delta), self.positions, self.groups, self.outputs).swapaxes(1, 2)

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

    def add(self, total: jax.Array, signs: jax.Array, left: jax.Array, right: jax.Array, /) -> jax.Array:
        return total + signs[:, None] * (held(left[:, 0]) * held(right[:, 0]))

    def finish(self, total: jax.Array, /) -> jax.Array:
        return self._rows.squares((total.T @ held(self._rows.inputs[:, 0, 0]) ** 2)[None])


class _Positions:
    """Many positions: their sum comes before the product, term by term."""

    def __init__(self, rows: _Matrices | _Patches, room: Room) -> None:
        self._rows, self._room = rows, room

    def start(self) -> jax.Array:
        return jnp.zeros((self._rows.groups, self._rows.outputs, self._rows.inputs.shape[3]), self._rows.dtype)

    def add(self, total: jax.Array, signs: jax.Array, left: jax.Array, right: jax.Array, /) -> jax.Array:
        inputs, dtype = self._rows.inputs, total.dtype
        step = self._room.examples(inputs.shape[1] * inputs.shape[3] * self._rows.outputs)
        for start in range(0, len(signs), step):
            part = slice(start, start + step)

            def gradients(delta: jax.Array, part: slice = part) -> jax.Array:
                rows = self._rows.rows(delta[part])
                return jnp.einsum("ngpo,ngpi->ngoi", rows, inputs[part], preferred_element_type=dtype)

            total = total + jnp.einsum("n,ngoi->goi", signs[part], _product(gradients, left, right))
        return total

    def finish(self, total: jax.Array, /) -> jax.Array:
        return self._rows.squares(total)


class _Table:
    """Rows of a table: the gradients of a row's occurrences in one example are added before the product."""

    def __init__(self, site: Site, indices: jax.Array, parameter: jax.Array) -> None:
        self._site, self._parameter = site, parameter
        examples, positions, self._width = site.shape
        self._indices = jnp.clip(indices.reshape(examples, positions), 0, site.operand[0] - 1)

    def start(self) -> jax.Array:
        return jnp.zeros((self._site.operand[0], self._width), self._parameter.dtype)

    def add(self, total: jax.Array, signs: jax.Array, left: jax.Array, right: jax.Array, /) -> jax.Array:
        def of_example(indices: jax.Array, left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
            # equal indices lie together, and share a slot
            order = jnp.argsort(indices)
            ordered = indices[order]
            slots = jnp.cumsum(jnp.diff(ordered, prepend=ordered[:1]) != 0)

            def gradients(delta: jax.Array) -> jax.Array:
                return jax.ops.segment_sum(held(delta[order]), slots, len(indices))

            # slots that are left over hold zeros, for the first row
            return jnp.zeros_like(indices).at[slots].set(ordered), _product(gradients, left, right)

        rows, products = jax.vmap(of_example)(self._indices, left, right)
        weighted = signs[:, None, None] * products
        return total.at[rows.reshape(-1)].add(weighted.reshape(-1, self._width))

    def finish(self, total: jax.Array, /) -> jax.Array:
        return _in_layout(self._site, total.reshape(self._site.operand), self._parameter)


class _Elementwise:
    """A sum or a product with activations, such as a bias or a gain: each example's part is spread back to the parameter."""

    def __init__(self, member: Member, activations: jax.Array, parameter: jax.Array) -> None:
        self._member, self._activations, self._parameter = member, activations, parameter

    def start(self) -> jax.Array:
        return jnp.zeros_like(self._parameter)

    def add(self, total: jax.Array, signs: jax.Array, left: jax.Array, right: jax.Array, /) -> jax.Array:
        operand, pullback = jax.vjp(self._member.site.path, self._parameter)

        def of_example(slope: jax.Array) -> jax.Array:
            """The gradient of one example: its slopes, added up where the operand is spread."""
            axes = [axis for axis in range(slope.ndim) if axis >= slope.ndim - operand.ndim]
            spread = [axis for axis in axes if operand.shape[axis - slope.ndim] == 1]
            summed = slope.sum(axis=[*range(slope.ndim - operand.ndim), *spread]).reshape(operand.shape)
            return pullback(summed.astype(operand.dtype))[0]

        def gradients(delta: jax.Array) -> jax.Array:
            return jax.vmap(of_example)(self._slopes(delta)[:, None])

        return total + jnp.tensordot(signs, _product(gradients, left, right), axes=1)

    def finish(self, total: jax.Array, /) -> jax.Array:
        return total

    def _slopes(self, delta: jax.Array) -> jax.Array:
        """The derivatives in the operand where it meets the activations."""
        slopes = held(self._member.layout(delta))
        return slopes if self._member.site.operation == "sum" else slopes * self._activations


def _product(gradients: Callable[[jax.Array], jax.Array], left: jax.Array, right: jax.Array) -> jax.Array:
    """The product of what two cotangents make; one array twice is squared."""
    one = gradients(left)
    return one * (one if right is left else gradients(right))


def _in_layout(site: Site, operand: jax.Array, parameter: jax.Array) -> jax.Array:
    """From the layout of the operand to that of the parameter: a path that only rearranges is its own inverse's transpose."""
    _, pullback = jax.vjp(site.path, parameter)
    return pullback(operand)[0]
