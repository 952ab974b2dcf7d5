"""The entry point of the Keras backend: it recognizes models by their type and loads a framework only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import ModelMetric
from invariant_sharpness.adapters.optimizers import OptimizerState, refuse_hyperparameters
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

if TYPE_CHECKING:
    from invariant_sharpness_keras.oracle import KerasOracle

_BASES = {
    ("keras.src.models.model", "Model"),
    ("tensorflow.python.module.module", "Module"),
}


class KerasBackend:
    """The backend for every ``keras.Model`` (Keras 3, on TensorFlow, JAX or PyTorch) and every ``tf.Module``."""

    name = "Keras"
    options = frozenset({"batch_size", "examples", "groups", "max_examples"})

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is a ``keras.Model`` or a ``tf.Module``, told by the names of its base classes."""
        return any((base.__module__, base.__qualname__) in _BASES for base in type(model).__mro__)

    def oracle(self, model: Any, data: Any, /, *, loss: Any, **options: Any) -> KerasOracle:
        """The oracle of ``model``; see :func:`invariant_sharpness_keras.building.build_oracle` for the options."""
        from invariant_sharpness_keras.building import build_oracle

        return build_oracle(model, data, loss, **options)

    def relu_oracle(
        self,
        weights: Sequence[npt.NDArray[np.float64]],
        biases: Sequence[npt.NDArray[np.float64]] | None,
        data: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
        /,
        *,
        loss: str,
        batch_size: int,
    ) -> KerasOracle:
        """The oracle of a ReLU network with these matrices and vectors, in float64 on TensorFlow and in float32 elsewhere."""
        from invariant_sharpness_keras.building import build_oracle
        from invariant_sharpness_keras.copies import relu_network

        return build_oracle(relu_network(weights, biases), data, loss, batch_size=batch_size)

    def copied_model(self, oracle: CurvatureOracle, parameters: ParameterVector, /) -> tuple[Any, Any, Any]:
        """A copy of the model with these parameters, all inputs, and all targets."""
        from invariant_sharpness_keras.copies import copied_model

        return copied_model(oracle, parameters)

    def accepts_optimizer(self, optimizer: object, /) -> bool:
        """Whether it is an optimizer of Keras, told by the names of its base classes."""
        return any(base.__module__ == "keras.src.optimizers.base_optimizer" for base in type(optimizer).__mro__)

    def optimizer_state(
        self, oracle: CurvatureOracle, optimizer: Any, hyperparameters: Mapping[str, Any], /
    ) -> OptimizerState:
        """What the optimizer does to the parameters of a model."""
        from invariant_sharpness_keras.optimizers import read_optimizer

        refuse_hyperparameters(hyperparameters)
        return read_optimizer(oracle, optimizer)


def model_metric(metric: Callable[[Any, Any, Any], Any]) -> ModelMetric:
    """Make ``metric(model, inputs, targets) -> number`` a metric of oracles.

    It gets a copy of the model with the oracle's parameters, and all examples in one batch of NumPy arrays.
    """
    return ModelMetric(metric, "keras")


backend = KerasBackend()
