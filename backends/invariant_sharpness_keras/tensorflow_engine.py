"""Derivatives by TensorFlow: gradient tapes within gradient tapes, compiled into graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras.engines import Array, Arrays, on_host
from invariant_sharpness_keras.layer_sites import Site, recording
from invariant_sharpness_keras.losses import KerasLoss
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.parts import equal_parts, squares_in_parts
from invariant_sharpness_keras.squared_products import AtSites, SquaredProducts
from invariant_sharpness_keras.tensorflow_models import Tensors, parameter_function

_graph = partial(tf.function, reduce_retracing=True)

_VECTORS = 4
"""So many products share a graph; more of them save little, and take longer to compile."""

_TERMS = 8
"""So many terms of squares do."""


def engine(model: Any, loss: KerasLoss) -> TensorFlowEngine:
    """The engine of a Keras model or a ``tf.Module``."""
    return TensorFlowEngine(model, loss)


class TensorFlowEngine:
    """Reverse-over-reverse differentiation, the only mode that is right for every common operation.

    XLA is not used: it has no second derivative of max pooling in float64.
    """

    name = "TensorFlow"

    def __init__(self, model: Any, loss: KerasLoss) -> None:
        self._function = parameter_function(model)
        self._loss = loss
        self._squares = SquaredProducts(model, self)

    def outputs(self, values: Arrays, inputs: Any, /) -> Array:
        return self._run(self._outputs, values, inputs)

    def losses(self, values: Arrays, inputs: Any, targets: Array, /) -> Array:
        return self._run(self._losses, values, inputs, targets)

    def loss_gradient(self, values: Arrays, inputs: Any, targets: Array, weights: Array, /) -> tuple[Arrays, Array]:
        return self._differentiate(self._loss_gradient, values, inputs, targets, weights)

    def loss_products(
        self, values: Arrays, vectors: list[Arrays], inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[list[Arrays], Array]:
        products: list[Arrays] = []
        losses = np.empty(0)
        for part in equal_parts(len(vectors), _VECTORS):
            found, losses = self._differentiate(self._loss_products, values, vectors[part], inputs, targets, weights)
            products += found
        return products, losses

    def loss_slopes(self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, /) -> tuple[Array, Array]:
        return self._differentiate(self._loss_slopes, values, directions, inputs, targets)

    def curvature_product(
        self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[Arrays, Array]:
        return self._differentiate(self._curvature_product, values, directions, inputs, targets, weights)

    def output_gradient(self, values: Arrays, inputs: Any, cotangents: Array, /) -> Arrays:
        return self._differentiate(self._output_gradient, values, inputs, cotangents)

    def output_slopes(self, values: Arrays, directions: Arrays, inputs: Any, /) -> Array:
        return self._differentiate(self._output_slopes, values, directions, inputs)

    def output_product(
        self, values: Arrays, directions: Arrays, inputs: Any, cotangents: Array, /
    ) -> tuple[Arrays, Arrays]:
        return self._differentiate(self._output_product, values, directions, inputs, cotangents)

    def output_squares(
        self, values: Arrays, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array, /
    ) -> dict[int, Array]:
        return self._squares(values, wanted, inputs, signs, cotangents)

    def squares_one_by_one(self, values: Arrays, inputs: Any, signs: Array, cotangents: Array, /) -> Arrays:
        return self._differentiate(self._squares_one_by_one, values, inputs, signs, cotangents)

    def squares_at(self, sites: Sequence[Site], /) -> AtSites:
        graph = _graph(partial(self._squares_at, sites))

        def squares(values: Arrays, inputs: Any, signs: Array, cotangents: Array) -> dict[int, Array]:
            function = partial(self._differentiate, graph, values, inputs)
            return squares_in_parts(function, signs, cotangents, _TERMS)

        return squares

    def row_losses(self, outputs: Array, targets: Array, /) -> Array:
        return on_host(self._loss.values(tf.constant(outputs), tf.constant(targets)))

    def row_gradient(self, outputs: Array, targets: Array, /) -> Array:
        z = tf.constant(outputs)
        with tf.GradientTape() as tape:
            tape.watch(z)
            total = tf.reduce_sum(self._loss.values(z, tf.constant(targets)))
        return on_host(tape.gradient(total, z, unconnected_gradients="zero"))

    def row_hessian(self, outputs: Array, targets: Array, /) -> Array:
        z = tf.constant(outputs.reshape(len(outputs), -1))
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(z)
            with tf.GradientTape() as inner:
                inner.watch(z)
                total = tf.reduce_sum(self._loss.values(tf.reshape(z, outputs.shape), tf.constant(targets)))
            slopes = tf.reduce_sum(inner.gradient(total, z, unconnected_gradients="zero"), axis=0)
        columns = outer.jacobian(slopes, z, unconnected_gradients="zero", experimental_use_pfor=False)
        return on_host(tf.transpose(columns, (1, 0, 2)))

    def _run(self, graph: Callable[..., Any], *arguments: Any) -> Any:
        """Arguments to tensors, results to the host, and the model as it was."""
        tensors = tf.nest.map_structure(tf.constant, arguments)
        with self._function.restored():
            return tf.nest.map_structure(on_host, graph(*tensors))

    def _differentiate(self, graph: Callable[..., Any], *arguments: Any) -> Any:
        """Say what to do where an operation has no derivative, or none on this device."""
        try:
            return self._run(graph, *arguments)
        except (LookupError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            msg = (
                f"TensorFlow cannot differentiate this model twice: {error} Replace that operation by one with a second "
                f"derivative, or run Keras on another backend"
            )
            raise ModelError(msg) from error

    @_graph
    def _outputs(self, values: Tensors, inputs: Any) -> Any:
        return self._function(self._function.bind(values), inputs)

    @_graph
    def _losses(self, values: Tensors, inputs: Any, targets: Any) -> Any:
        return self._loss.values(self._function(self._function.bind(values), inputs), targets)

    @_graph
    def _loss_gradient(self, values: Tensors, inputs: Any, targets: Any, weights: Any) -> Any:
        sources = self._function.bind(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            losses = self._loss.values(self._function(sources, inputs), targets)
            total = _weighted_sum(losses, weights)
        return _gradients(tape, total, sources), losses

    @_graph
    def _loss_products(
        self, values: Tensors, vectors: list[Tensors], inputs: Any, targets: Any, weights: Any
    ) -> tuple[list[Tensors], Any]:
        sources = self._function.bind(values)
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                losses = self._loss.values(self._function(sources, inputs), targets)
                total = _weighted_sum(losses, weights)
            slopes = _gradients(inner, total, sources)
        products: list[Tensors] = []
        for vector in vectors:
            with tf.control_dependencies(products[-1] if products else []):  # one after the other, to save memory
                products.append(_gradients(outer, slopes, sources, vector))
        return products, losses

    @_graph
    def _loss_slopes(self, values: Tensors, directions: Tensors, inputs: Any, targets: Any) -> Any:
        sources = self._function.bind(values)
        return _along(lambda: self._loss.values(self._function(sources, inputs), targets), sources, directions)

    @_graph
    def _curvature_product(self, values: Tensors, directions: Tensors, inputs: Any, targets: Any, weights: Any) -> Any:
        sources = self._function.bind(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            along, outputs = _along(lambda: self._function(sources, inputs), sources, directions)
        curved, losses = self._curved(outputs, along, targets, weights)
        return _gradients(tape, outputs, sources, curved), losses

    def _curved(self, outputs: Any, along: Any, targets: Any, weights: Any) -> Any:
        """The Hessian of the weighted sum of the losses in the outputs times ``along``, and the losses."""
        z = tf.stop_gradient(outputs)
        with tf.GradientTape() as outer:
            outer.watch(z)
            with tf.GradientTape() as inner:
                inner.watch(z)
                losses = self._loss.values(z, targets)
                total = _weighted_sum(losses, weights)
            slope = tf.reduce_sum(_gradients(inner, total, [z])[0] * along)
        return _gradients(outer, slope, [z])[0], losses

    @_graph
    def _output_gradient(self, values: Tensors, inputs: Any, cotangents: Any) -> Any:
        sources = self._function.bind(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = self._function(sources, inputs)
        return _gradients(tape, outputs, sources, tf.cast(cotangents, outputs.dtype))

    @_graph
    def _output_slopes(self, values: Tensors, directions: Tensors, inputs: Any) -> Any:
        sources = self._function.bind(values)
        along, _ = _along(lambda: self._function(sources, inputs), sources, directions)
        return along

    @_graph
    def _output_product(self, values: Tensors, directions: Tensors, inputs: Any, cotangents: Any) -> Any:
        sources = self._function.bind(values)
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                total = tf.reduce_sum(self._function(sources, inputs) * cotangents)
            slopes = _gradients(inner, total, sources)
            along = _inner(slopes, directions)
        return slopes, _gradients(outer, along, sources)

    @_graph
    def _squares_one_by_one(self, values: Tensors, inputs: Any, signs: Any, cotangents: Any) -> Any:
        sources = self._function.bind(values)

        def add(sums: Tensors, example: Any) -> Tensors:
            x, sign, cotangent = example
            with tf.GradientTape() as tape:
                tape.watch(sources)
                outputs = self._function(sources, tf.nest.map_structure(lambda leaf: leaf[None], x))
                total = tf.reduce_sum(outputs[0] * cotangent)
            squares = [tf.square(slope) for slope in _gradients(tape, total, sources)]
            return [a + tf.cast(sign, b.dtype) * b for a, b in zip(sums, squares, strict=True)]

        start = [tf.zeros_like(source) for source in sources]
        return tf.foldl(add, (inputs, signs, cotangents), initializer=start)

    def _squares_at(
        self, sites: Sequence[Site], values: Tensors, inputs: Any, signs: Tensors, cotangents: Tensors
    ) -> dict[int, Any]:
        """The terms are unrolled in one graph with the forward pass: there alone is max pooling fast."""
        sources = self._function.bind(values)
        with tf.GradientTape(persistent=True) as tape, recording(sites) as records:
            tape.watch(sources)
            outputs = self._function(sources, inputs)
        opened = OpenedSites(sites, records, outputs)
        for sign, cotangent in zip(signs, cotangents, strict=True):
            with tf.control_dependencies(opened.totals):
                opened.add(sign, _gradients(tape, outputs, opened.affine, tf.identity(cotangent)))
        return opened.finished()


def _weighted_sum(losses: Any, weights: Any) -> Any:
    return tf.reduce_sum(losses * tf.cast(weights, losses.dtype))


def _gradients(tape: tf.GradientTape, value: Any, sources: Tensors, cotangent: Any = None) -> Tensors:
    """Dense derivatives, of the sum of ``cotangent * value``; zero for sources that it does not depend on."""
    found = tape.gradient(value, sources, output_gradients=cotangent, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in found]


def _along(function: Callable[[], Any], sources: Tensors, directions: Tensors) -> tuple[Any, Any]:
    """``J u`` for all results of a function, as the derivative of ``(J^T c) . u`` in c; and the results."""
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(sources)
            results = function()
            cotangent = tf.ones_like(results)
            outer.watch(cotangent)
            total = tf.reduce_sum(results * cotangent)
        slope = _inner(_gradients(inner, total, sources), directions)
    return _gradients(outer, slope, [cotangent])[0], results


def _inner(slopes: Tensors, directions: Tensors) -> Any:
    """The inner product, in float64 across groups that may differ in precision."""
    return tf.add_n([tf.cast(tf.reduce_sum(g * d), "float64") for g, d in zip(slopes, directions, strict=True)])
