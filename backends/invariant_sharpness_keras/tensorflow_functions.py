"""The factors of a loss: in NumPy those of the core, and a user's function by TensorFlow, eagerly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from invariant_sharpness.adapters.data import infinite_output_hessian
from invariant_sharpness.adapters.loss_terms import FunctionTerms, RowTerms, parameters_in_loss
from invariant_sharpness.adapters.sample_weights import SampleWeighted
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import FunctionLoss
from invariant_sharpness_keras.losses import Loss
from invariant_sharpness_keras.models import tensor_of


def loss_terms(loss: Loss) -> SampleWeighted:
    """Return the factors of the loss, as NumPy arrays."""
    if not isinstance(loss, FunctionLoss):
        return SampleWeighted(RowTerms(loss, xp), xp)

    def gradient(*arguments: Any) -> npt.NDArray[Any]:
        return np.array(row_gradient(*arguments))

    def hessian(*arguments: Any) -> npt.NDArray[Any]:
        found = np.array(row_hessian(*arguments))
        if not np.isfinite(found).all():
            raise infinite_output_hessian(loss.name)
        return found

    return SampleWeighted(FunctionTerms(loss, xp, gradient, hessian, tf.Tensor, losses_at), xp)


def check_loss_of_outputs(name: str, losses: Any, outputs: Any, targets: Any, variables: Mapping[str, Any]) -> None:
    """Raise LossError if a loss reads one of the named variables, which its graph shows; nothing is computed.

    Parameters
    ----------
    name
        Of the loss.
    losses
        The loss of outputs and targets, as a ``tf.function``.
    outputs, targets
        What it is taken of.
    variables
        Those that are measured, by name.

    Raises
    ------
    LossError
        Also if there is no graph of it.
    """
    try:
        graph = losses.get_concrete_function(outputs, _tensors(targets)).graph
    except Exception as error:  # whatever the user's function raises
        msg = (
            f"TensorFlow cannot make a graph of loss {name!r}: {type(error).__name__}: {error}. Write it in keras.ops or in TensorFlow's "
            f"operations, without float(), .numpy() or numpy"
        )
        raise LossError(msg) from error
    read = {id(variable) for variable in graph.variables}
    if found := [key for key, variable in variables.items() if id(tensor_of(variable)) in read]:
        raise parameters_in_loss(name, found)


def weights_of_rows(loss: Loss, outputs: npt.NDArray[Any], targets: Any) -> npt.NDArray[Any]:
    """Return the weight of each row."""
    if isinstance(loss, FunctionLoss):
        return np.ones(len(outputs))
    weights: npt.NDArray[Any] = loss.row_weights(xp, outputs, targets)
    return weights


def row_gradient(function: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> Any:
    """Compute the gradient of each example's loss in its outputs, eagerly."""
    z = tf.constant(outputs)
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(function(z, _tensors(targets)))
    return tape.gradient(total, z, unconnected_gradients="zero")


def row_hessian(function: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> Any:
    """Compute the Hessian of each example's loss in its K flattened outputs, of shape ``(n, K, K)``, eagerly."""
    z = tf.reshape(tf.constant(outputs), (len(outputs), -1))
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            total = tf.reduce_sum(function(tf.reshape(z, outputs.shape), _tensors(targets)))
        slopes = tf.reduce_sum(inner.gradient(total, z, unconnected_gradients="zero"), axis=0)
    columns = outer.jacobian(slopes, z, unconnected_gradients="zero", experimental_use_pfor=False)
    return tf.transpose(columns, (1, 0, 2))


def losses_at(
    function: Callable[[Any, Any], Any], outputs: Any, targets: Any, rows: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    """Compute the losses of some examples on the host, in float64 unless the function has constants in another type.

    Raises
    ------
    ValueError
        If TensorFlow cannot compute the losses of so many.
    """
    part = tf.nest.map_structure(lambda leaf: np.asarray(leaf)[rows], (outputs, targets))
    try:
        return np.array(function(*_tensors(tf.nest.map_structure(_double, part))))
    except Exception:  # what raises with its own types as well is told below
        try:
            return np.array(function(*_tensors(part)))
        except tf.errors.OpError as error:
            raise ValueError(error.message) from error


def _double(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _tensors(tree: Any) -> Any:
    return tf.nest.map_structure(tf.constant, tree)
