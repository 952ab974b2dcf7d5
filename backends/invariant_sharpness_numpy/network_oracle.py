"""A ReLU network and its data as a curvature oracle, with derivatives in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import array_api_compat.numpy
import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.adapters.data import Batch, positive_weight
from invariant_sharpness.adapters.outputs import CotangentRows, stacked
from invariant_sharpness.errors import DataError, LossError, NonFiniteError
from invariant_sharpness.losses import ConvexLoss, OutputLoss, convex, named_loss
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import HostArrays, Rows
from invariant_sharpness_numpy.batch_loss import BatchLoss, finite_forward
from invariant_sharpness_numpy.derivatives import ForwardPass, backward, gradient
from invariant_sharpness_numpy.examples import checked_examples
from invariant_sharpness_numpy.layers import Array, Layer, from_arrays, layer_groups, to_arrays
from invariant_sharpness_numpy.network import ReluNetwork
from invariant_sharpness_numpy.tangents import forward_tangents, second_derivative

_CERTIFICATE_EXAMPLES = 32


class NetworkOracle:
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

    Raises
    ------
    DataError, LossError, NonFiniteError
        Each names the array, row or batch that is wrong.
    """

    xp = array_api_compat.numpy

    def __init__(
        self, network: ReluNetwork, x: Any, y: Any, loss: str | OutputLoss = "cross_entropy", batch_size: int = 256
    ) -> None:
        self.network = network
        self.groups = layer_groups(network.layers, biases=network.biases is not None)
        self.outputs_per_example = network.outputs
        self._loss = _resolved(loss)
        self._examples = checked_examples(x, y, network.inputs, batch_size)
        self._total_weight = self._checked_weight()

    @property
    def parameters(self) -> ParameterVector:
        return self.from_numpy(to_arrays(self.network.layers))

    def loss(self, parameters: ParameterVector, /) -> float:
        return sum(batch.value() for batch in self._batches(parameters)) / self._total_weight

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._mean(parameters, lambda batch: batch.gradient())

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        directions = self._layers(vector)
        return self._mean(parameters, lambda batch: batch.hessian_vector_product(directions))

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        directions = [self._layers(vector) for vector in vectors]
        totals = [self._zeros() for _ in vectors]
        for batch in self._batches(parameters):
            products = [self._vector(batch.hessian_vector_product(direction)) for direction in directions]
            totals = [total + product for total, product in zip(totals, products, strict=True)]
        return [self._finite(total) / self._total_weight for total in totals]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        directions = self._layers(vector)
        return self._mean(parameters, lambda batch: batch.gauss_newton_vector_product(directions))

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        return self._mean(parameters, lambda batch: batch.gauss_newton_diagonal()).only(names)

    @property
    def samples_outputs(self) -> bool:
        return isinstance(self._loss, ConvexLoss)

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        loss, total = convex(self._loss), self._zeros()
        for number, batch in enumerate(self._batches(parameters)):
            for draw in draws:
                start, rows = number * self._examples.batch_size, batch.examples
                signs = random.output_signs(seed, draw, start, rows, self.outputs_per_example)
                total = total + self._vector(batch.sampled_gauss_newton_diagonal(loss, signs))
        return (self._finite(total) / (self._total_weight * len(draws))).only(names)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._mean(parameters, lambda batch: batch.squared_gradients())

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        directions = self._layers(direction)
        return sum(batch.squared_slopes(directions) for batch in self._batches(parameters)) / self._total_weight

    @property
    def examples(self) -> int:
        return len(self._examples.inputs)

    def subset(self, examples: Sequence[int], /) -> NetworkOracle:
        x, y = self._examples.chosen(examples)
        return NetworkOracle(self.network, x, y, self._loss, self._examples.batch_size)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        layers = self._layers(parameters)
        passed = finite_forward(layers, self._examples.inputs[:_CERTIFICATE_EXAMPLES])
        cotangents = random.cotangents(seed, passed.outputs.shape)
        first = gradient(passed.activations, backward(layers, passed.slopes, cotangents))
        second = {}
        for name in parameters.arrays:
            # One group moves and its own block is read. As phi is linear in z, its cotangents do not move.
            directions = self._layers(direction.only([name]))
            product = second_derivative(layers, directions, passed, cotangents, np.zeros_like)
            second[name] = self._vector(product)[name]
        return self._vector(first), ParameterVector(self.xp, second)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return stacked(passed.outputs for passed in self._passes(parameters, examples))

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        layers, directions = self._layers(parameters), self._layers(vector)
        return stacked(forward_tangents(layers, directions, p)[1] for p in self._passes(parameters, examples))

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        layers, rows = self._layers(parameters), CotangentRows(cotangents)
        total = self._zeros()
        for passed in self._passes(parameters, len(rows)):
            deltas = backward(layers, passed.slopes, rows.next_like(passed.outputs.shape))
            total = total + self._vector(gradient(passed.activations, deltas))
        rows.check_used()
        return total

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        copies = {group.name: np.array(arrays[group.name], dtype=np.float64) for group in self.groups}
        return ParameterVector(self.xp, copies)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, Array]:
        return {name: np.array(array, dtype=np.float64) for name, array in vector.arrays.items()}

    def network_at(self, parameters: ParameterVector, /) -> ReluNetwork:
        """The network with other parameters."""
        layers = self._layers(parameters)
        biases = None if self.network.biases is None else tuple(layer.bias for layer in layers)
        return ReluNetwork(tuple(layer.weight for layer in layers), biases)

    def all_examples(self) -> Batch:
        """Copies of all inputs and all targets."""
        return Batch(self._examples.inputs.copy(), self._examples.targets.copy())

    def _batches(self, parameters: ParameterVector) -> Iterator[BatchLoss]:
        layers = self._layers(parameters)
        return (BatchLoss(layers, batch, self._loss) for batch in self._examples)

    def _passes(self, parameters: ParameterVector, examples: int) -> Iterator[ForwardPass]:
        """The network on the first examples, batch by batch."""
        layers = self._layers(parameters)
        return (finite_forward(layers, batch.inputs) for batch in self._examples.first(examples))

    def _mean(self, parameters: ParameterVector, batch_sum: Callable[[BatchLoss], list[Layer]]) -> ParameterVector:
        """Sum over the batches, divided once by the sum of the weights."""
        total = self._zeros()
        for batch in self._batches(parameters):
            total = total + self._vector(batch_sum(batch))
        return self._finite(total) / self._total_weight

    def _zeros(self) -> ParameterVector:
        return self.from_numpy({group.name: np.zeros(group.shape) for group in self.groups})

    def _finite(self, vector: ParameterVector) -> ParameterVector:
        for name, array in vector.arrays.items():
            if not np.isfinite(array).all():
                msg = f"a derivative in {name} is NaN or infinite, although all outputs are finite at this point"
                raise NonFiniteError(msg)
        return vector

    def _checked_weight(self) -> float:
        """Look at every batch once; return the sum of the weights."""
        layers, total = self.network.layers, 0.0
        for index, batch in enumerate(self._examples):
            outputs = finite_forward(layers, batch.inputs).outputs
            try:
                self._loss.check(self.xp, outputs, batch.targets)
                total += float(np.sum(self._loss.weights(self.xp, outputs, batch.targets)))
            except (DataError, LossError) as error:
                first = index * self._examples.batch_size
                msg = f"batch {index} (rows {first} to {first + len(outputs) - 1}): {error}"
                raise type(error)(msg) from error
        return positive_weight(total)

    def _layers(self, vector: ParameterVector) -> list[Layer]:
        return from_arrays(vector.arrays, len(self.network.weights))

    def _vector(self, layers: list[Layer]) -> ParameterVector:
        arrays = to_arrays(layers)
        return ParameterVector(self.xp, {group.name: arrays[group.name] for group in self.groups})


def _resolved(loss: str | OutputLoss) -> OutputLoss:
    if isinstance(loss, str):
        return named_loss(loss)
    if isinstance(loss, OutputLoss):
        return loss
    msg = (
        f"a loss of type {type(loss).__name__} has no closed-form derivatives: give a name, or an object with the "
        f"methods of invariant_sharpness.losses.OutputLoss"
    )
    raise LossError(msg)
