"""A ReLU network and its data as a curvature oracle, with derivatives in closed form."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from invariant_sharpness.adapters.alone import check_own_rows
from invariant_sharpness.adapters.data import Batch, Dataset, as_batches, positive_weight
from invariant_sharpness.adapters.data import batch_size as examples_in
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import NextTokenCrossEntropy, OutputLoss, named_loss
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness_numpy.derivatives import finite_forward
from invariant_sharpness_numpy.engine import NumpyEngine
from invariant_sharpness_numpy.examples import checked_examples
from invariant_sharpness_numpy.layers import from_arrays
from invariant_sharpness_numpy.network import ReluNetwork

_ADVICE = "build an invariant_sharpness_numpy.FunctionOracle of the whole loss"


class NetworkOracle(DatasetOracle):
    r"""The mean loss :math:`L(\theta) = \sum_n w_n \ell(f_\theta(x_n), y_n) / \sum_n w_n` of a ReLU network, with its derivatives.

    Sums over the data are added batch by batch and divided once, so that class weights, ignored labels and a
    short last batch are exact. A Hessian-vector product costs two to three gradients, the Gauss-Newton diagonal
    K backward passes. Memory is that of one batch, with K x K numbers per example.

    Parameters
    ----------
    network
        Where the parameters are now.
    x
        Inputs of shape (n, features), copied as float64.
    y
        Targets, copied: integer labels of shape (n,), or numbers of shape (n, K) for ``"mse"``.
    loss
        ``"cross_entropy"``, ``"normalized_cross_entropy"``, ``"mse"``, or an object with the methods of
        :class:`invariant_sharpness.losses.OutputLoss`.
    batch_size
        Number of examples that are in memory at once. No value depends on it.
    max_examples
        Measure on so many first examples; by default on all.

    Raises
    ------
    DataError, LossError, NonFiniteError
        Each names the array, row or batch that is wrong.
    """

    def __init__(
        self,
        network: ReluNetwork,
        x: Any,
        y: Any,
        loss: str | OutputLoss = "cross_entropy",
        batch_size: int = 256,
        max_examples: int | None = None,
    ) -> None:
        resolved = _resolved(loss)
        engine = NumpyEngine(network, resolved)
        examples = checked_examples(x, y, network.inputs)
        batches = as_batches(tuple(examples), batch_size, max_examples=max_examples)
        dataset = Dataset(batches, engine.batch, engine.host_rows)
        _check_weights(network, dataset, resolved)
        super().__init__(engine, dataset, outputs_per_example=network.outputs)
        self.network = network

    def network_at(self, parameters: ParameterVector, /) -> ReluNetwork:
        """Return the network with other parameters."""
        layers = from_arrays(dict(parameters.arrays), len(self.network.weights))
        biases = None if self.network.biases is None else tuple(layer.bias for layer in layers)
        return ReluNetwork(tuple(layer.weight for layer in layers), biases)


def _check_weights(network: ReluNetwork, dataset: Dataset[Batch], loss: OutputLoss) -> None:
    """Look at every batch once; raise unless the loss fits it, and some example counts."""
    total, first = 0.0, 0
    for number, batch in enumerate(dataset):
        outputs = finite_forward(network.layers, batch.inputs).outputs
        try:
            loss.check(xp, outputs, batch.targets)
            check_own_rows(loss, xp, outputs, batch.targets, _ADVICE)
            total += float(np.sum(loss.weights(xp, outputs, batch.targets)))
        except (DataError, LossError) as error:
            msg = f"batch {number} (rows {first} to {first + len(outputs) - 1}): {error}"
            raise type(error)(msg) from error
        first += examples_in(batch)
    positive_weight(total)


def _resolved(loss: str | OutputLoss) -> OutputLoss:
    found = named_loss(loss) if isinstance(loss, str) else loss
    if isinstance(found, NextTokenCrossEntropy):
        msg = f'{found.name} is a loss of positions, but the outputs of this network have none: take "cross_entropy"'
        raise LossError(msg)
    if isinstance(found, OutputLoss):
        return found
    msg = (
        f"a loss of type {type(loss).__name__} has no closed-form derivatives: give a name, or an object with the "
        f"methods of invariant_sharpness.losses.OutputLoss"
    )
    raise LossError(msg)
