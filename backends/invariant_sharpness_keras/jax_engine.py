"""Derivatives by JAX: forward over reverse, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.engines import Array, Arrays, on_host
from invariant_sharpness_keras.layer_sites import Record, Site, recording
from invariant_sharpness_keras.losses import KerasLoss
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.parts import equal_parts, squares_in_parts
from invariant_sharpness_keras.squared_products import AtSites, SquaredProducts

Tensors = list[Any]

_VECTORS = 4
"""So many products are compiled together; more of them save little, and take longer to compile."""

_TERMS = 5
"""So many terms of squares are."""


def engine(model: keras.Model, loss: KerasLoss) -> JaxEngine:
    """The engine of a Keras model."""
    return JaxEngine(model, loss)


class JaxEngine:
    """Pure functions of parameters and constants; the model's variables are only read."""

    name = "JAX"

    def __init__(self, model: keras.Model, loss: KerasLoss) -> None:
        self._model = model
        self._loss = loss
        self._squares = SquaredProducts(model, self)
        self._outputs = jax.jit(self._call)
        self._losses = jax.jit(self._loss_values)
        self._loss_gradient = jax.jit(jax.grad(self._weighted_loss, has_aux=True))
        self._loss_products = jax.jit(self._products_of_loss)
        self._loss_slopes = jax.jit(self._slopes_of_loss)
        self._curvature_product = jax.jit(self._product_of_curvature)
        self._output_gradient = jax.jit(jax.grad(self._weighted_output))
        self._output_slopes = jax.jit(self._slopes_of_outputs)
        self._output_product = jax.jit(self._product_of_outputs)
        self._add_squares = jax.jit(self._squares_added)
        self._row_losses = jax.jit(loss.values)
        self._row_gradient = jax.jit(jax.grad(self._row_total))
        self._row_hessian = jax.jit(self._hessian_of_rows)

    def outputs(self, values: Arrays, inputs: Any, /) -> Array:
        return self._run(self._outputs, values, inference.constants(self._model), inputs)

    def losses(self, values: Arrays, inputs: Any, targets: Array, /) -> Array:
        return self._run(self._losses, values, inference.constants(self._model), inputs, targets)

    def loss_gradient(self, values: Arrays, inputs: Any, targets: Array, weights: Array, /) -> tuple[Arrays, Array]:
        return self._run(self._loss_gradient, values, inference.constants(self._model), inputs, targets, weights)

    def loss_products(
        self, values: Arrays, vectors: list[Arrays], inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[list[Arrays], Array]:
        fixed = inference.constants(self._model)
        products: list[Arrays] = []
        losses = np.empty(0)
        for part in equal_parts(len(vectors), _VECTORS):
            found, losses = self._run(self._loss_products, values, vectors[part], fixed, inputs, targets, weights)
            products += found
        return products, losses

    def loss_slopes(self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, /) -> tuple[Array, Array]:
        return self._run(self._loss_slopes, values, directions, inference.constants(self._model), inputs, targets)

    def curvature_product(
        self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[Arrays, Array]:
        return self._run(
            self._curvature_product, values, directions, inference.constants(self._model), inputs, targets, weights
        )

    def output_gradient(self, values: Arrays, inputs: Any, cotangents: Array, /) -> Arrays:
        return self._run(self._output_gradient, values, inference.constants(self._model), inputs, cotangents)

    def output_slopes(self, values: Arrays, directions: Arrays, inputs: Any, /) -> Array:
        return self._run(self._output_slopes, values, directions, inference.constants(self._model), inputs)

    def output_product(
        self, values: Arrays, directions: Arrays, inputs: Any, cotangents: Array, /
    ) -> tuple[Arrays, Arrays]:
        return self._run(self._output_product, values, directions, inference.constants(self._model), inputs, cotangents)

    def output_squares(
        self, values: Arrays, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array, /
    ) -> dict[int, Array]:
        return self._squares(values, wanted, inputs, signs, cotangents)

    def squares_one_by_one(self, values: Arrays, inputs: Any, signs: Array, cotangents: Array, /) -> Arrays:
        """The loop is not compiled: within one, convolutions on the host are slow."""
        point, fixed = jax.tree.map(jnp.asarray, values), inference.constants(self._model)
        sums = jax.tree.map(jnp.zeros_like, point)
        for row in range(batch_size(inputs)):
            example = take(inputs, row, row + 1)
            sums = self._add_squares(sums, point, fixed, example, signs[row : row + 1], cotangents[row : row + 1])
        return [on_host(total) for total in sums]

    def squares_at(self, sites: Sequence[Site], /) -> AtSites:
        compiled = jax.jit(partial(self._squares_at, sites))

        def squares(values: Arrays, inputs: Any, signs: Array, cotangents: Array) -> dict[int, Array]:
            fixed = inference.constants(self._model)
            function = partial(self._run, compiled, values, fixed, inputs)
            return squares_in_parts(function, signs, cotangents, _TERMS)

        return squares

    def row_losses(self, outputs: Array, targets: Array, /) -> Array:
        return self._run(self._row_losses, outputs, targets)

    def row_gradient(self, outputs: Array, targets: Array, /) -> Array:
        return self._run(self._row_gradient, outputs, targets)

    def row_hessian(self, outputs: Array, targets: Array, /) -> Array:
        return self._run(self._row_hessian, outputs, targets)

    def _run(self, function: Any, *arguments: Any) -> Any:
        return jax.tree.map(on_host, function(*arguments))

    def _call(self, values: Tensors, fixed: Tensors, inputs: Any) -> Any:
        return inference.outputs(self._model, values, fixed, inputs)

    def _loss_values(self, values: Tensors, fixed: Tensors, inputs: Any, targets: Any) -> Any:
        return self._loss.values(self._call(values, fixed, inputs), targets)

    def _weighted_loss(self, values: Tensors, fixed: Tensors, inputs: Any, targets: Any, weights: Any) -> Any:
        return self._weighted_values(self._call(values, fixed, inputs), targets, weights)

    def _weighted_values(self, outputs: Any, targets: Any, weights: Any) -> Any:
        losses = self._loss.values(outputs, targets)
        return jnp.sum(losses * weights.astype(losses.dtype)), losses

    def _products_of_loss(self, values: Tensors, vectors: list[Tensors], *arguments: Any) -> Any:
        """The gradient is linearized once. No loop goes over the vectors: in a loop, convolutions on the host are slow."""

        def gradient(point: Tensors) -> Any:
            return jax.grad(self._weighted_loss, has_aux=True)(point, *arguments)

        _, linear, losses = jax.linearize(gradient, values, has_aux=True)
        return [linear(vector) for vector in vectors], losses

    def _slopes_of_loss(self, values: Tensors, directions: Tensors, *arguments: Any) -> Any:
        losses, slopes = jax.jvp(lambda point: self._loss_values(point, *arguments), (values,), (directions,))
        return slopes, losses

    def _product_of_curvature(
        self, values: Tensors, directions: Tensors, fixed: Tensors, inputs: Any, targets: Any, weights: Any
    ) -> Any:
        def model(point: Tensors) -> Any:
            return self._call(point, fixed, inputs)

        def slopes(z: Any) -> Any:
            return jax.grad(self._weighted_values, has_aux=True)(z, targets, weights)

        outputs, transposed = jax.vjp(model, values)
        _, along = jax.jvp(model, (values,), (directions,))
        _, curved, losses = jax.jvp(slopes, (outputs,), (along,), has_aux=True)
        return transposed(curved)[0], losses

    def _weighted_output(self, values: Tensors, fixed: Tensors, inputs: Any, cotangents: Any) -> Any:
        outputs = self._call(values, fixed, inputs)
        return jnp.sum(outputs * cotangents.astype(outputs.dtype))

    def _slopes_of_outputs(self, values: Tensors, directions: Tensors, fixed: Tensors, inputs: Any) -> Any:
        _, slopes = jax.jvp(lambda point: self._call(point, fixed, inputs), (values,), (directions,))
        return slopes

    def _product_of_outputs(self, values: Tensors, directions: Tensors, *arguments: Any) -> Any:
        gradient = jax.grad(lambda point: self._weighted_output(point, *arguments))
        return jax.jvp(gradient, (values,), (directions,))

    def _squares_added(
        self, sums: Tensors, values: Tensors, fixed: Tensors, example: Any, sign: Any, c: Any
    ) -> Tensors:
        slopes = jax.grad(self._weighted_output)(values, fixed, example, c)
        return [a + sign[0].astype(b.dtype) * b**2 for a, b in zip(sums, slopes, strict=True)]

    def _squares_at(
        self,
        sites: Sequence[Site],
        values: Tensors,
        fixed: Tensors,
        inputs: Any,
        signs: Tensors,
        cotangents: Tensors,
    ) -> dict[int, Any]:
        """Cotangents of affine parts are derivatives in zeros that are added to them; the terms are unrolled."""

        def forward(shifts: list[Tensors] | None) -> tuple[Any, list[Any]]:
            with recording(sites, shifts) as records:
                outputs = self._call(values, fixed, inputs)
            return outputs, [(record.inputs, record.outputs, record.values) for record in records]

        _, shapes = jax.eval_shape(forward, None)
        shifts = [[jnp.zeros(tensor.shape, tensor.dtype) for tensor in outputs] for _, outputs, _ in shapes]
        outputs, pullback, found = jax.vjp(forward, shifts, has_aux=True)
        opened = OpenedSites(sites, [Record(*parts) for parts in found], outputs)
        for sign, cotangent in zip(signs, cotangents, strict=True):
            (deltas,) = pullback(cotangent.astype(outputs.dtype))
            by_site = dict(zip(sites, deltas, strict=True))
            opened.add(sign, [by_site[site][0] for site in opened.sites])
        return opened.finished()

    def _hessian_of_rows(self, outputs: Any, targets: Any) -> Any:
        def slopes(flat: Any) -> Any:
            return jax.grad(lambda z: self._row_total(z.reshape(outputs.shape), targets))(flat).sum(axis=0)

        return jax.jacrev(slopes)(outputs.reshape(len(outputs), -1)).transpose(1, 0, 2)

    def _row_total(self, outputs: Any, targets: Any) -> Any:
        return jnp.sum(self._loss.values(outputs, targets))
