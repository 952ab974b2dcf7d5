"""Derivatives of one batch by TensorFlow: gradient tapes within gradient tapes, compiled into graphs.

Reverse over reverse is the only mode that is right for every common operation. XLA is not used: it has no second derivative of
max pooling in float64. Arguments and results are tensors; values of parameters are lists in the order of the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness_keras.keras_losses import KerasFunction
from invariant_sharpness_keras.losses import Loss
from invariant_sharpness_keras.output_losses import values_and_weights
from invariant_sharpness_keras.tensorflow_models import ParameterFunction, Tensors
from invariant_sharpness_keras.tensorflow_tracing import TracedByExample

Summed = tuple[Any, Any]
"""The sum of the weighted losses and that of the weights, in float64."""


class Graphs:
    """The derivatives of one model and one loss; each is compiled for the shapes that it meets.

    Parameters
    ----------
    function
        The model.
    loss
        The loss of its outputs.
    of_one_shape
        Whether a graph with the loss in it is of one shape alone. In one that batches of several sizes share, the number of rows is
        None, and ``outputs.shape[0] or 1`` a wrong number without an error.
    """

    def __init__(self, function: ParameterFunction, loss: Loss, *, of_one_shape: bool) -> None:
        self.function = function
        self._loss = loss
        self._values_and_weights = _as_written(loss)
        self.compiled = tf.function if of_one_shape else TracedByExample
        self.losses = self.compiled(self._losses)
        self.losses_of_outputs = self.compiled(self._losses_of_outputs)
        self.loss_gradient = self.compiled(self._loss_gradient)
        self.loss_products = self.compiled(self._loss_products)
        self.loss_slopes = self.compiled(self._loss_slopes)
        self.curvature_product = self.compiled(self._curvature_product)
        self.outputs = TracedByExample(self._outputs)
        self.output_gradient = TracedByExample(self._output_gradient)
        self.output_slopes = TracedByExample(self._output_slopes)
        self.output_products = TracedByExample(self._output_products)
        self.squares_one_by_one = TracedByExample(self._squares_one_by_one)

    def _outputs(self, values: Tensors, inputs: Any) -> Any:
        return self.function(self.function.sources(values), inputs)

    def _losses(self, values: Tensors, inputs: Any, targets: Any) -> tuple[Any, Summed]:
        """The loss of every row, and the sums."""
        outputs = self.function(self.function.sources(values), inputs)
        losses, weights = self._values_and_weights(self._loss, outputs, targets)
        return losses, _summed(losses, weights)

    def _losses_of_outputs(self, outputs: Any, targets: Any) -> Any:
        """The loss of every row, apart from the model."""
        losses, _ = self._values_and_weights(self._loss, outputs, targets)
        return losses

    def _loss_gradient(self, values: Tensors, inputs: Any, targets: Any) -> tuple[Tensors, Summed]:
        sources = self.function.sources(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            total, summed = self._weighted_loss(self.function(sources, inputs), targets)
        return gradients(tape, total, sources), summed

    def _loss_products(
        self, values: Tensors, vectors: list[Tensors], inputs: Any, targets: Any
    ) -> tuple[list[Tensors], Summed]:
        sources = self.function.sources(values)
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                total, summed = self._weighted_loss(self.function(sources, inputs), targets)
            slopes = gradients(inner, total, sources)
        product = tf.function(
            lambda vector: gradients(outer, slopes, sources, vector)
        )  # is differentiated once for all
        products: list[Tensors] = []
        for vector in vectors:
            with tf.control_dependencies(products[-1] if products else []):  # one after the other, to save memory
                products.append(product(vector))
        return products, summed

    def _loss_slopes(self, values: Tensors, directions: Tensors, inputs: Any, targets: Any) -> Summed:
        """The weighted sum of the squared derivatives of the losses, and the sum of the weights."""
        sources = self.function.sources(values)
        weights: list[Any] = []

        def losses() -> Any:
            found, weight = self._values_and_weights(self._loss, self.function(sources, inputs), targets)
            weights.append(weight)
            return found

        slopes, _ = _along(losses, sources, directions)
        return _summed(tf.square(tf.cast(slopes, "float64")), weights[0])

    def _curvature_product(
        self, values: Tensors, directions: Tensors, inputs: Any, targets: Any
    ) -> tuple[Tensors, Summed]:
        sources = self.function.sources(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            along, outputs = _along(lambda: self.function(sources, inputs), sources, directions)
        curved, summed = self._curved(outputs, along, targets)
        return gradients(tape, outputs, sources, curved), summed

    def _output_gradient(self, values: Tensors, inputs: Any, cotangents: Any) -> Tensors:
        sources = self.function.sources(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = self.function(sources, inputs)
        return gradients(tape, outputs, sources, tf.cast(cotangents, outputs.dtype))

    def _output_slopes(self, values: Tensors, directions: Tensors, inputs: Any) -> Any:
        sources = self.function.sources(values)
        along, _ = _along(lambda: self.function(sources, inputs), sources, directions)
        return along

    def _output_products(self, values: Tensors, directions: Tensors, inputs: Any, cotangents: Any) -> Tensors:
        """The second derivative of the sum of ``cotangents * outputs`` times the directions."""
        sources = self.function.sources(values)
        with tf.GradientTape() as outer:
            outer.watch(sources)
            with tf.GradientTape() as inner:
                inner.watch(sources)
                outputs = self.function(sources, inputs)
                total = tf.reduce_sum(outputs * tf.cast(cotangents, outputs.dtype))
            slopes = gradients(inner, total, sources)
        return gradients(outer, slopes, sources, directions)

    def _squares_one_by_one(self, values: Tensors, inputs: Any, signs: Any, cotangents: Any) -> Tensors:
        """The sum of ``s_n (J_n^T c_n)^2`` for one term and all parameters, one example at a time."""
        sources = self.function.sources(values)

        def add(sums: Tensors, example: Any) -> Tensors:
            x, sign, cotangent = example
            with tf.GradientTape() as tape:
                tape.watch(sources)
                outputs = self.function(sources, tf.nest.map_structure(lambda leaf: leaf[None], x))
                total = tf.reduce_sum(outputs[0] * cotangent)
            squares = [tf.square(slope) for slope in gradients(tape, total, sources)]
            return [a + tf.cast(sign, b.dtype) * b for a, b in zip(sums, squares, strict=True)]

        start = [tf.zeros_like(source) for source in sources]
        return tf.foldl(add, (inputs, signs, cotangents), initializer=start)

    def cotangents(self, outputs: Any, targets: Any) -> Any:
        r"""The derivatives :math:`c_n = w_n \partial \ell_n / \partial z_n`, as constants."""
        z = tf.stop_gradient(outputs)
        with tf.GradientTape() as tape:
            tape.watch(z)
            total, _ = self._weighted_loss(z, targets)
        return tf.stop_gradient(gradients(tape, total, [z])[0])

    def _weighted_loss(self, outputs: Any, targets: Any) -> tuple[Any, Summed]:
        """What is differentiated, in the dtype of the losses; and the sums."""
        losses, weights = self._values_and_weights(self._loss, outputs, targets)
        return tf.reduce_sum(losses * tf.cast(weights, losses.dtype)), _summed(losses, weights)

    def _curved(self, outputs: Any, along: Any, targets: Any) -> tuple[Any, Summed]:
        """The Hessian of the weighted sum of the losses in the outputs times ``along``, and the sums."""
        z = tf.stop_gradient(outputs)
        with tf.GradientTape() as outer:
            outer.watch(z)
            with tf.GradientTape() as inner:
                inner.watch(z)
                total, summed = self._weighted_loss(z, targets)
            slope = tf.reduce_sum(gradients(inner, total, [z])[0] * along)
        return gradients(outer, slope, [z])[0], summed


def may_read_shapes(loss: Loss) -> bool:
    """Whether a loss may do something else where the number of rows is not known: what users write may."""
    return isinstance(loss, FunctionLoss) and not (
        isinstance(loss.function, KerasFunction) and loss.function.is_of_keras
    )


def _as_written(loss: Loss) -> Callable[..., tuple[Any, Any]]:
    """Let TensorFlow rewrite the user's functions alone: it warns of what it cannot rewrite."""
    if isinstance(loss, FunctionLoss):
        return lambda loss, outputs, targets: values_and_weights(loss, _of_known_rows(outputs, targets), targets)
    plain: Callable[..., tuple[Any, Any]] = tf.autograph.experimental.do_not_convert(values_and_weights)
    return plain


def _of_known_rows(outputs: Any, targets: Any) -> Any:
    """The outputs with as many rows as the targets have: a model may lose the number, as after a gather."""
    rows = tf.nest.flatten(targets)[0].shape[:1]
    return outputs if outputs.shape.rank is None else tf.ensure_shape(outputs, rows + outputs.shape[1:])


def gradients(tape: tf.GradientTape, value: Any, sources: Tensors, cotangent: Any = None) -> Tensors:
    """Return dense derivatives of the sum of ``cotangent * value``; zero for sources that it does not depend on."""
    found = tape.gradient(value, sources, output_gradients=cotangent, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in found]


def _summed(values: Any, weights: Any) -> Summed:
    weights = tf.cast(weights, "float64")
    return tf.reduce_sum(tf.cast(values, "float64") * weights), tf.reduce_sum(weights)


def _along(function: Callable[[], Any], sources: Tensors, directions: Tensors) -> tuple[Any, Any]:
    """``J u`` for all results of a function, as the derivative of ``(J^T c) . u`` in c; and the results."""
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(sources)
            results = function()
            cotangent = tf.ones_like(results)
            outer.watch(cotangent)
            total = tf.reduce_sum(results * cotangent)
        slope = _inner(gradients(inner, total, sources), directions)
    return gradients(outer, slope, [cotangent])[0], results


def _inner(slopes: Tensors, directions: Tensors) -> Any:
    """The inner product, in float64 across groups that may differ in precision."""
    return tf.add_n([tf.cast(tf.reduce_sum(g * d), "float64") for g, d in zip(slopes, directions, strict=True)])


class _NoRetracingWarning(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()


@contextmanager
def without_retracing_warnings() -> Generator[None]:
    """A graph for each shape and each number of vectors is what is wanted, and nothing that users could change."""
    logger, quiet = tf.get_logger(), _NoRetracingWarning()
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)
