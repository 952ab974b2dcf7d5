"""Derivatives by JAX: forward over reverse, compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras

from invariant_sharpness_keras import inference
from invariant_sharpness_keras.engines import Array, Arrays, on_host
from invariant_sharpness_keras.losses import KerasLoss

Tensors = list[Any]


def engine(model: keras.Model, loss: KerasLoss) -> JaxEngine:
    """The engine of a Keras model."""
    return JaxEngine(model, loss)


class JaxEngine:
    """Pure functions of parameters and constants; the model's variables are only read."""

    name = "JAX"

    def __init__(self, model: keras.Model, loss: KerasLoss) -> None:
        self._model = model
        self._loss = loss
        self._outputs = jax.jit(self._call)
        self._losses = jax.jit(self._loss_values)
        self._loss_gradient = jax.jit(jax.grad(self._weighted_loss, has_aux=True))
        self._loss_product = jax.jit(self._product_of_loss)
        self._loss_slopes = jax.jit(self._slopes_of_loss)
        self._curvature_product = jax.jit(self._product_of_curvature)
        self._output_gradient = jax.jit(jax.grad(self._weighted_output))
        self._output_slopes = jax.jit(self._slopes_of_outputs)
        self._output_product = jax.jit(self._product_of_outputs)
        self._output_squares = jax.jit(self._squares_of_outputs)
        self._row_losses = jax.jit(loss.values)
        self._row_gradient = jax.jit(jax.grad(self._row_total))
        self._row_hessian = jax.jit(self._hessian_of_rows)

    def outputs(self, values: Arrays, inputs: Any, /) -> Array:
        return self._run(self._outputs, values, inference.constants(self._model), inputs)

    def losses(self, values: Arrays, inputs: Any, targets: Array, /) -> Array:
        return self._run(self._losses, values, inference.constants(self._model), inputs, targets)

    def loss_gradient(self, values: Arrays, inputs: Any, targets: Array, weights: Array, /) -> tuple[Arrays, Array]:
        return self._run(self._loss_gradient, values, inference.constants(self._model), inputs, targets, weights)

    def loss_product(
        self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[Arrays, Array]:
        return self._run(
            self._loss_product, values, directions, inference.constants(self._model), inputs, targets, weights
        )

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

    def output_squares(self, values: Arrays, inputs: Any, signs: Array, cotangents: Array, /) -> Arrays:
        return self._run(self._output_squares, values, inference.constants(self._model), inputs, signs, cotangents)

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

    def _product_of_loss(self, values: Tensors, directions: Tensors, *arguments: Any) -> Any:
        def gradient(point: Tensors) -> Any:
            return jax.grad(self._weighted_loss, has_aux=True)(point, *arguments)

        _, product, losses = jax.jvp(gradient, (values,), (directions,), has_aux=True)
        return product, losses

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

    def _squares_of_outputs(self, values: Tensors, fixed: Tensors, inputs: Any, signs: Any, cotangents: Any) -> Tensors:
        def add(sums: Tensors, example: Any) -> tuple[Tensors, None]:
            x, sign, cotangent = example
            row = jax.tree.map(lambda leaf: leaf[None], x)
            slopes = jax.grad(lambda point: jnp.sum(self._call(point, fixed, row)[0] * cotangent))(values)
            return [a + sign.astype(b.dtype) * b**2 for a, b in zip(sums, slopes, strict=True)], None

        start = [jnp.zeros_like(value) for value in values]
        sums, _ = jax.lax.scan(add, start, (inputs, signs, cotangents))
        return sums

    def _hessian_of_rows(self, outputs: Any, targets: Any) -> Any:
        def slopes(flat: Any) -> Any:
            return jax.grad(lambda z: self._row_total(z.reshape(outputs.shape), targets))(flat).sum(axis=0)

        return jax.jacrev(slopes)(outputs.reshape(len(outputs), -1)).transpose(1, 0, 2)

    def _row_total(self, outputs: Any, targets: Any) -> Any:
        return jnp.sum(self._loss.values(outputs, targets))
