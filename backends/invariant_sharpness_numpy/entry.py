"""The entry point of the NumPy backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import is_pair
from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.errors import DataError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness_numpy.layers import Array
from invariant_sharpness_numpy.network import ReluNetwork
from invariant_sharpness_numpy.network_oracle import NetworkOracle
from invariant_sharpness_numpy.training import Labels, accuracy, train_network


class NumpyBackend:
    """The backend for :class:`ReluNetwork`."""

    name = "NumPy"
    options = frozenset({"batch_size", "max_examples"})

    def accepts(self, model: object, /) -> bool:
        """Whether ``model`` is a :class:`ReluNetwork`."""
        return isinstance(model, ReluNetwork)

    def oracle(self, model: ReluNetwork, data: Any, /, *, loss: Any, **options: Any) -> NetworkOracle:
        """The oracle of ``model`` on ``data = (x, y)``; the options are ``batch_size`` and ``max_examples``.

        Raises
        ------
        DataError
            If ``data`` is not a pair of arrays.
        """
        if not (is_pair(data) and hasattr(data[1], "shape")):
            msg = f"data is a {type(data).__name__}, but the NumPy backend needs a pair of arrays: data=(x, y)"
            raise DataError(msg)
        x, y = data
        return NetworkOracle(model, x, y, loss, **options)

    def train_network(self, x: Array, labels: Labels, /, *, sizes: tuple[int, ...], seed: int) -> ReluNetwork:
        """Train the ReLU network of the demonstration."""
        return train_network(x, labels, sizes=sizes, seed=seed)

    def accuracy(self, model: ReluNetwork, x: Array, labels: Labels, /) -> float:
        """Share of the examples that ``model`` classifies as labelled."""
        return accuracy(model, x, labels)

    def relu_oracle(
        self,
        weights: Sequence[npt.NDArray[np.float64]],
        biases: Sequence[npt.NDArray[np.float64]] | None,
        data: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]],
        /,
        *,
        loss: str,
        batch_size: int,
    ) -> NetworkOracle:
        """The oracle of the network with these matrices and vectors."""
        network = ReluNetwork(tuple(weights), None if biases is None else tuple(biases))
        return self.oracle(network, data, loss=loss, batch_size=batch_size)

    def copied_model(self, oracle: CurvatureOracle, parameters: ParameterVector, /) -> tuple[Any, Any, Any]:
        """A network with these parameters, all inputs, and all targets."""
        if not isinstance(oracle, NetworkOracle):
            raise foreign_oracle(oracle, "NumPy")
        return oracle.network_at(parameters), *oracle.all_examples()


backend = NumpyBackend()
