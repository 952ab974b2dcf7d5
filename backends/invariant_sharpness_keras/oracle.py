"""A Keras model, or a TensorFlow module, and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from invariant_sharpness.adapters import DatasetOracle, Engine, Point
from invariant_sharpness.adapters.data import Dataset
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness_keras.models import check_layers


class KerasOracle(DatasetOracle):
    """The mean loss of a model in inference mode, with its derivatives by the framework beneath Keras.

    Vectors are NumPy arrays on TensorFlow, and the framework's own tensors elsewhere, in the dtypes of the variables.

    Parameters
    ----------
    model
        Deterministic and example by example; it is never changed.
    engine
        Differentiates the model and a loss.
    dataset
        The batches, in the engine's form.
    outputs_per_example
        The largest number of outputs that an example has.
    """

    def __init__(self, model: Any, engine: Engine[Any], dataset: Dataset[Any], outputs_per_example: int) -> None:
        super().__init__(engine, dataset, outputs_per_example)
        self.model = model

    @contextmanager
    def _measuring(self, parameters: ParameterVector) -> Generator[Point[Any]]:
        """Layers are looked at on every pass: their policies may change between two of them."""
        check_layers(self.model)
        with super()._measuring(parameters) as point:
            yield point
