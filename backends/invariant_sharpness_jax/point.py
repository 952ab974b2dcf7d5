"""A JAX function with its loss at one parameter point: sums over a batch by compiled programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.adapters.engine import Cotangents, CotangentsOf, Sums
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.prng import Draws, layer_number, output_signs
from invariant_sharpness.protocol import OutputForm
from invariant_sharpness_jax.processes import addressable
from invariant_sharpness_jax.program import Constants, Losses, Program
from invariant_sharpness_jax.room import room_within_limit
from invariant_sharpness_jax.trees import Arrays, added

Layers = Mapping[str, Mapping[str, jax.ShapeDtypeStruct]]
"""The forms of the outputs of layers, by the names of the layer and of its parameters."""


class JaxPoint:
    """A function with its loss at one parameter point; every method is a sum over the examples of a batch.

    Parameters
    ----------
    program
        The compiled derivatives.
    groups
        Roles and axes of the parameters.
    arrays
        The parameters by name, as vectors hold them.
    constants
        What the model computes with besides.
    """

    def __init__(
        self, program: Program, groups: tuple[ParameterGroup, ...], arrays: Arrays, constants: Constants
    ) -> None:
        self._program = program
        self._groups = groups
        self._arrays = arrays
        self._constants = constants

    def evaluate(self, batch: Batch, /) -> tuple[jax.Array, jax.Array]:
        return self._program.evaluate(self._arrays, self._constants, batch.inputs), batch.targets

    def traced(self, arrays: Arrays, batch: Batch) -> jax.Array:
        """Return the outputs at other parameters, inside a function that is traced."""
        return self._program.outputs(arrays, self._constants, batch.inputs)

    def losses(self, batch: Batch, /) -> Sums:
        return _sums(self._program.losses(self._arrays, self._constants, batch))

    def row_losses(self, batch: Batch, /) -> npt.NDArray[Any]:
        return np.asarray(addressable(self._program.losses(self._arrays, self._constants, batch).rows))

    def gradient(self, batch: Batch, /) -> Sums:
        gradient, losses = self._program.gradient(self._arrays, self._constants, batch)
        return _sums(losses, gradient)

    def hessian_products(self, vectors: Sequence[Arrays], batch: Batch, /) -> Sums:
        products, losses = self._program.products(self._arrays, self._constants, vectors, batch)
        return _sums(losses, *products)

    def gauss_newton_product(self, vector: Arrays, batch: Batch, /) -> Sums:
        product, losses = self._program.curvature_product(self._arrays, self._constants, vector, batch)
        return _sums(losses, product)

    def residual_products(self, vectors: Sequence[Arrays], names: frozenset[str], batch: Batch, /) -> Sums:
        products, losses = self._program.residual_block(*self._split(names), self._constants, vectors, batch)
        return _sums(losses, *products)

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Batch, /) -> Sums:
        given, room = (*self._split(names), self._constants), room_within_limit()
        rows, width = self._program.row_shape(self._arrays, self._constants, batch)
        if cotangents.kind == "curvature":
            squares, weight = self._program.curvature_squares(*given, batch, room)
        elif cotangents.kind == "gradient":
            squares, weight = self._program.gradient_squares(*given, batch, room)
        else:
            signs = _stacked_signs(cotangents.sampled(), rows, width)
            squares, weight = self._program.sampled_squares(*given, signs, batch, room)
        return Sums(weight, rows, (squares,))

    def layer_moments(self, batch: Batch, /) -> LayerMoments:
        layers = self.layers(batch)
        squares = self._program.layer_moments(self._arrays, self._constants, batch) if layers else {}
        return LayerMoments(
            {name: squares[layer] for layer, own in layers.items() for name in own},
            {name: prod(form.shape[1:]) for own in layers.values() for name, form in own.items()},
        )

    def residual_squares(self, perturbations: Perturbations, batch: Batch, /) -> Sums:
        """Every draw at every layer is one pass through the second derivative; then one forward pass multiplies what came back."""
        layers = {name: own for name, own in self.layers(batch).items() if perturbations.units.keys() & own.keys()}
        given = (*self._split(frozenset(name for own in layers.values() for name in own)), self._constants)
        second, weight = self._program.layer_curvature(*given, batch)
        scales = {layer: _scale(perturbations, own) for layer, own in layers.items()}
        still, total = {layer: _zeros(_form(own)) for layer, own in layers.items()}, Arrays()
        for signs in self._signs(perturbations, layers):
            images = still | {
                k: self._program.applied({**still, k: u * scales[k]}, second)[k] for k, u in signs.items()
            }
            part = self._program.perturbed_products(*given, scales, still | signs, images, batch, room_within_limit())
            total = added(total, part) if total else part
        wanted = {name: array for name, array in total.items() if name in perturbations.units}
        return Sums(weight, self._row_count(batch), (wanted,))

    def slopes(self, vector: Arrays, batch: Batch, /) -> Sums:
        value, weight = self._program.slopes(self._arrays, self._constants, vector, batch)
        return Sums(weight, self._row_count(batch), value=value)

    def pushforward(self, vector: Arrays, batch: Batch, /) -> jax.Array:
        return self._program.pushforward(self._arrays, self._constants, vector, batch.inputs)

    def pullback(self, cotangents: CotangentRows, batch: Batch, /) -> Arrays:
        """The batch stays whole, so that nothing is compiled again; examples without a row have cotangents of zero."""
        form = self._program.evaluate.form(self._arrays, self._constants, batch.inputs)
        given = cotangents.next_like((min(len(cotangents), form.shape[0]), *form.shape[1:]))
        padded = np.zeros(form.shape, dtype=form.dtype)
        padded[: len(given)] = given
        return self._program.pullback(self._arrays, self._constants, jnp.asarray(padded), batch.inputs)

    def output_curvature(self, direction: Arrays, cotangents: CotangentsOf, batch: Batch, /) -> tuple[Arrays, Arrays]:
        form = self._program.evaluate.form(self._arrays, self._constants, batch.inputs)
        c = jnp.asarray(cotangents(form.shape).astype(form.dtype))
        given, form = (self._arrays, self._constants, c, batch.inputs), self.output_form(batch)
        first, curved = self._program.pullback(*given), (form.curved | form.unknown) & direction.keys()
        still = {name: jnp.zeros_like(array) for name, array in self._arrays.items()}
        products = dict.fromkeys(direction, still)
        if curved:
            second = self._program.output_curvature(*given)
            # One group moves and its own block is read: a loop of XLA would be slow around convolutions.
            along = {name: jnp.asarray(direction[name], dtype=still[name].dtype) for name in curved}
            products |= {k: self._program.applied({**still, k: u}, second) for k, u in along.items()}
        return first, {name: product[name] for name, product in products.items()}

    def output_form(self, batch: Batch, /) -> OutputForm:
        outputs = self._program.evaluate.form(self._arrays, self._constants, batch.inputs)
        cotangents = jnp.zeros(outputs.shape, outputs.dtype)
        certain, possible = self._program.curved(self._arrays, self._constants, cotangents, batch.inputs)
        return OutputForm(frozenset(certain), frozenset(possible))

    def _row_count(self, batch: Batch) -> int:
        return self._program.row_shape(self._arrays, self._constants, batch)[0]

    def _split(self, names: frozenset[str]) -> tuple[Arrays, Arrays]:
        """The named parameters, and all others."""
        chosen = {name: array for name, array in self._arrays.items() if name in names}
        return chosen, {name: array for name, array in self._arrays.items() if name not in names}

    def layers(self, batch: Batch) -> Layers:
        """Return the layers that every example of the batch passes once. Nothing is computed."""
        found: Layers = self._program.layer_outputs.form(self._arrays, self._constants, batch)
        return found

    def _signs(self, perturbations: Perturbations, layers: Layers) -> Iterator[dict[str, jax.Array]]:
        """The perturbations of all layers, number by number: of wide layers there may be more than of others."""
        drawn = [perturbations.of_layer(layer_number(self._groups, own), *_form(own).shape) for own in layers.values()]
        for signs in zip_longest(*drawn):
            named = zip(layers.items(), signs, strict=True)
            yield {k: jnp.asarray(u, dtype=_form(own).dtype) for (k, own), u in named if u is not None}


def _form(layer: Mapping[str, jax.ShapeDtypeStruct]) -> jax.ShapeDtypeStruct:
    """The form of the outputs of a layer, which all its parameters have."""
    return next(iter(layer.values()))


def _zeros(form: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(form.shape, form.dtype)


def _scale(perturbations: Perturbations, layer: Mapping[str, jax.ShapeDtypeStruct]) -> jax.Array:
    scale = next(perturbations.units[name].scale for name in layer if name in perturbations.units)
    return jnp.asarray(scale, dtype=_form(layer).dtype)


def _sums(losses: Losses, *arrays: Arrays) -> Sums:
    return Sums(losses.weight, losses.rows.size, arrays, losses.total)


def _stacked_signs(draws: Draws, rows: int, width: int) -> jax.Array:
    """The signs of all draws, of shape ``(draws, rows, width)``."""
    numbers, seed, start = draws
    return jnp.asarray(np.stack([output_signs(seed, n, start, rows, width).astype(np.float32) for n in numbers]))
