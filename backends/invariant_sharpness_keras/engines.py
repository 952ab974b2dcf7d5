"""What differentiates: one engine for each framework beneath Keras, all with NumPy arrays at their boundary.

Copies between the engine's device and the host cost little beside a pass over the data, and keep the oracle
one and the same for all of them; TensorFlow's tensors have no array API namespace anyway.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ModelError

if TYPE_CHECKING:
    from invariant_sharpness_keras.losses import KerasLoss

Array = npt.NDArray[Any]
Arrays = list[Array]
"""One array per trainable variable, in the order of the model."""


class Engine(Protocol):
    """Derivatives of a model, batch by batch; pure functions that leave the model as it was.

    ``inputs`` is an array or a nest of arrays with one row per example; ``weights`` has one entry per loss.
    """

    @property
    def name(self) -> str:
        """The name of the framework, as people write it."""
        ...

    def outputs(self, values: Arrays, inputs: Any, /) -> Array:
        """Outputs in inference mode. Shape ``(n, ...)``."""
        ...

    def losses(self, values: Arrays, inputs: Any, targets: Array, /) -> Array:
        """Losses, not weighted. Shape ``(m,)``."""
        ...

    def loss_gradient(self, values: Arrays, inputs: Any, targets: Array, weights: Array, /) -> tuple[Arrays, Array]:
        """Gradient of the weighted sum of the losses, and the losses."""
        ...

    def loss_products(
        self, values: Arrays, vectors: list[Arrays], inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[list[Arrays], Array]:
        """Hessian of the weighted sum of the losses times each of the vectors, and the losses."""
        ...

    def loss_slopes(self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, /) -> tuple[Array, Array]:
        """Derivative of every loss along the directions, and the losses."""
        ...

    def curvature_product(
        self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[Arrays, Array]:
        r"""Sum of :math:`w_n J_n^T \Lambda_n J_n u`, and the losses.

        :math:`\Lambda_n` is the whole Hessian of the loss in the outputs, also where that is indefinite.
        """
        ...

    def output_gradient(self, values: Arrays, inputs: Any, cotangents: Array, /) -> Arrays:
        """Gradient of the sum of ``cotangents * outputs``."""
        ...

    def output_slopes(self, values: Arrays, directions: Arrays, inputs: Any, /) -> Array:
        """Derivative of every output along the directions, in the shape of the outputs."""
        ...

    def output_product(
        self, values: Arrays, directions: Arrays, inputs: Any, cotangents: Array, /
    ) -> tuple[Arrays, Arrays]:
        """Gradient of the sum of ``cotangents * outputs``, and its Hessian times the directions."""
        ...

    def output_squares(
        self, values: Arrays, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array, /
    ) -> dict[int, Array]:
        """Sum of ``s_kn (J_n^T c_kn)^2`` over terms and examples, for the wanted values and perhaps for others, by position.

        ``signs`` have shape ``(terms, n)``, ``cotangents`` that of the outputs with the terms first.
        """
        ...

    def row_losses(self, outputs: Array, targets: Array, /) -> Array:
        """The losses of given outputs. Shape ``(m,)``."""
        ...

    def row_gradient(self, outputs: Array, targets: Array, /) -> Array:
        """Gradient of each example's loss in its outputs. Shape ``(n, ...)``."""
        ...

    def row_hessian(self, outputs: Array, targets: Array, /) -> Array:
        """Hessian of each example's loss in its K flattened outputs. Shape ``(n, K, K)``."""
        ...


def engine_of(model: Any, loss: KerasLoss) -> Engine:
    """The engine that computes the model.

    Raises
    ------
    ModelError
        If Keras runs on a backend without gradients, or on another one than the model.
    """
    from keras import Model, backend

    framework = backend.backend()
    if not isinstance(model, Model) and framework != "tensorflow":
        msg = (
            f"the model is a tf.Module, but Keras, which supplies the losses, runs on {framework!r}: "
            f"set the environment variable KERAS_BACKEND=tensorflow before Python starts"
        )
        raise ModelError(msg)
    if framework not in ("tensorflow", "jax", "torch"):
        msg = (
            f"Keras runs on {framework!r}, which has no second derivatives: set the environment variable KERAS_BACKEND "
            f"to tensorflow, jax or torch before Python starts"
        )
        raise ModelError(msg)
    module = importlib.import_module(f"invariant_sharpness_keras.{framework}_engine")
    found: Engine = module.engine(model, loss)
    return found


def on_host(array: Any) -> Array:
    """A copy on the host that can be written to."""
    return np.array(array)
