"""A Keras model, or a TensorFlow module, and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.adapters.data import all_examples, infinite_derivative, infinite_loss, positive_weight
from invariant_sharpness.adapters.outputs import CotangentRows, stacked
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import HostArrays, ParameterGroup, Rows
from invariant_sharpness_keras.batch import Batch
from invariant_sharpness_keras.dataset import Dataset, random_state
from invariant_sharpness_keras.engines import Array, Arrays, Engine
from invariant_sharpness_keras.first_examples import FirstExamples
from invariant_sharpness_keras.losses import KerasLoss, Term
from invariant_sharpness_keras.models import check_layers, host_values
from invariant_sharpness_keras.parts import terms_in_blocks

_CERTIFICATE_EXAMPLES = 32


class KerasOracle:
    """The mean loss of a model in inference mode, with its derivatives by an engine.

    Vectors are NumPy arrays in the dtypes of the variables. All sums over the data are of unnormalized losses and
    weights, batch by batch, and are divided once.

    Parameters
    ----------
    model
        Deterministic and example by example; it is never changed.
    dataset
        Batches on the host.
    loss
        Of outputs and targets.
    engine
        Differentiates the model and the loss.
    variables
        Those that are measured.
    output_shape
        Shape of the outputs of one example.
    groups
        Roles and axes of the variables, in the same order.
    """

    xp = array_api_compat.numpy

    def __init__(
        self,
        model: Any,
        dataset: Dataset,
        loss: KerasLoss,
        engine: Engine,
        variables: list[Any],
        output_shape: tuple[int, ...],
        groups: tuple[ParameterGroup, ...],
    ) -> None:
        self.model = model
        self.outputs_per_example = int(np.prod(output_shape))
        self.groups = groups
        self._dataset = dataset
        self._loss = loss
        self._engine = engine
        self._first = FirstExamples(dataset)
        self._variables = variables
        self._output_shape = output_shape
        self._width = output_shape[-1] if output_shape else 1
        self._dtypes = [value.dtype for value in host_values(variables)]

    @property
    def parameters(self) -> ParameterVector:
        return self._vector(host_values(self._variables))

    def loss(self, parameters: ParameterVector, /) -> float:
        values = self._arrays(parameters)

        def total(batch: Batch, weights: Array, index: int) -> float:
            losses = self._engine.losses(values, batch.inputs, batch.targets)
            return _finite_total(losses, weights, batch, index)

        return self._mean_number(total)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        values = self._arrays(parameters)

        def total(batch: Batch, weights: Array, index: int) -> Arrays:
            gradient, losses = self._engine.loss_gradient(values, batch.inputs, batch.targets, weights)
            _finite_total(losses, weights, batch, index)
            return gradient

        return self._mean(total)

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        (product,) = self.hessian_vector_products(parameters, [vector])
        return product

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        values, along = self._arrays(parameters), [self._arrays(vector) for vector in vectors]

        def total(batch: Batch, weights: Array, index: int) -> list[Arrays]:
            products, losses = self._engine.loss_products(values, along, batch.inputs, batch.targets, weights)
            _finite_total(losses, weights, batch, index)
            return products

        return self._means(total, len(along))

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        values, directions = self._arrays(parameters), self._arrays(vector)

        def total(batch: Batch, weights: Array, index: int) -> Arrays:
            product, losses = self._engine.curvature_product(values, directions, batch.inputs, batch.targets, weights)
            _finite_total(losses, weights, batch, index)
            return product

        return self._mean(total)

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        return self._squares(parameters, self._loss.curvature_terms, names)

    @property
    def samples_outputs(self) -> bool:
        return self._loss.samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        start = 0

        def terms(_: Engine, outputs: Array, targets: Array) -> Iterator[Term]:
            nonlocal start
            yield from self._loss.sampled_terms(outputs, targets, Draws(draws, seed, start))
            start += len(self._loss.weights(targets, self._width))

        return self._squares(parameters, terms, names) / float(len(draws))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._squares(parameters, self._loss.gradient_terms, frozenset(group.name for group in self.groups))

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        values, directions = self._arrays(parameters), self._arrays(direction)

        def total(batch: Batch, weights: Array, index: int) -> float:
            slopes, losses = self._engine.loss_slopes(values, directions, batch.inputs, batch.targets)
            _finite_total(losses, weights, batch, index)
            return float(np.sum(weights * slopes.astype(np.float64) ** 2))

        return self._mean_number(total)

    @cached_property
    def examples(self) -> int:
        with self._pass():
            return self._dataset.count()

    def subset(self, examples: Sequence[int], /) -> KerasOracle:
        with self._pass():
            dataset = self._dataset.subset(examples)
        return KerasOracle(
            self.model, dataset, self._loss, self._engine, self._variables, self._output_shape, self.groups
        )

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        values = self._arrays(parameters)
        with self._pass() as batches:
            _, head = next(batches)
        inputs = head.take(0, _CERTIFICATE_EXAMPLES).inputs
        outputs = self._engine.outputs(values, inputs)
        cotangents = random.cotangents(seed, outputs.shape).astype(outputs.dtype)
        first: Arrays = []
        second: Arrays = []
        for index, group in enumerate(self.groups):
            # One group moves and its own block is read.
            moved = self._arrays(direction.only([group.name]))
            first, products = self._engine.output_product(values, moved, inputs, cotangents)
            second.append(products[index])
        return self._vector(first), self._vector(second)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        values = self._arrays(parameters)
        return self._rows(examples, lambda inputs: self._engine.outputs(values, inputs))

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        values, directions = self._arrays(parameters), self._arrays(vector)
        return self._rows(examples, lambda inputs: self._engine.output_slopes(values, directions, inputs))

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        values, rows = self._arrays(parameters), CotangentRows(cotangents)
        sums = [np.zeros_like(value) for value in values]
        with self._pass():
            for batch in self._first.batches(len(rows)):
                shape = self._engine.outputs(values, batch.inputs).shape
                gradient = self._engine.output_gradient(values, batch.inputs, rows.next_like(shape))
                sums = [a + b for a, b in zip(sums, gradient, strict=True)]
        rows.check_used()
        return self._vector(sums)

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        values = [np.array(arrays[g.name], dtype=dtype) for g, dtype in zip(self.groups, self._dtypes, strict=True)]
        return self._vector(values)

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.array(array, dtype=np.float64) for name, array in vector.arrays.items()}

    def all_examples(self) -> Batch:
        """All inputs and all targets, each in one NumPy array or nest of arrays. Raises DataError if they do not fit."""
        with self._pass():
            return all_examples(self._dataset)

    def _squares(
        self,
        parameters: ParameterVector,
        terms: Callable[[Engine, Array, Array], Iterator[Term]],
        names: frozenset[str],
    ) -> ParameterVector:
        """The mean of the sums of squares for the named groups, zero elsewhere."""
        values = self._arrays(parameters)
        wanted = frozenset(index for index, group in enumerate(self.groups) if group.name in names)

        def total(batch: Batch, _weights: Array, _index: int) -> Arrays:
            outputs = self._engine.outputs(values, batch.inputs)
            sums = [np.zeros_like(value) for value in values]
            for signs, cotangents in terms_in_blocks(terms(self._engine, outputs, batch.targets), outputs):
                found = self._engine.output_squares(values, wanted, batch.inputs, signs, cotangents)
                sums = [part + found[index] if index in wanted else part for index, part in enumerate(sums)]
            return sums

        return self._mean(total)

    def _rows(self, examples: int, function: Callable[[Any], Array]) -> Rows:
        """What a function of the inputs gives for the first examples of a pass."""
        with self._pass():
            return stacked(function(batch.inputs) for batch in self._first.batches(examples))

    @contextmanager
    def _pass(self) -> Generator[Iterator[tuple[int, Batch]]]:
        check_layers(self.model)
        with random_state():
            yield enumerate(self._dataset)

    def _mean(self, total: Callable[[Batch, Array, int], Arrays]) -> ParameterVector:
        (mean,) = self._means(lambda batch, weights, index: [total(batch, weights, index)], 1)
        return mean

    def _means(self, totals: Callable[[Batch, Array, int], list[Arrays]], count: int) -> list[ParameterVector]:
        """Sums of so many vectors over the batches, divided once by the sum of the weights."""
        forms = [(group.shape, dtype) for group, dtype in zip(self.groups, self._dtypes, strict=True)]
        sums = [[np.zeros(shape, dtype=dtype) for shape, dtype in forms] for _ in range(count)]
        weight = 0.0
        with self._pass() as batches:
            for index, batch in batches:
                weights = self._loss.weights(batch.targets, self._width)
                for held, parts in zip(sums, totals(batch, weights, index), strict=True):
                    held[:] = [a + b for a, b in zip(held, parts, strict=True)]
                weight += float(np.sum(weights))
        return [self._finite([part / positive_weight(weight) for part in held]) for held in sums]

    def _finite(self, arrays: Arrays) -> ParameterVector:
        """The vector of derivatives, which have to be numbers."""
        vector = self._vector(arrays)
        for name, array in vector.arrays.items():
            if not np.isfinite(array).all():
                raise infinite_derivative(name)
        return vector

    def _mean_number(self, total: Callable[[Batch, Array, int], float]) -> float:
        value = weight = 0.0
        with self._pass() as batches:
            for index, batch in batches:
                weights = self._loss.weights(batch.targets, self._width)
                value, weight = value + total(batch, weights, index), weight + float(np.sum(weights))
        return value / positive_weight(weight)

    def _arrays(self, vector: ParameterVector) -> Arrays:
        return [vector[g.name].astype(dtype) for g, dtype in zip(self.groups, self._dtypes, strict=True)]

    def _vector(self, arrays: Arrays) -> ParameterVector:
        return ParameterVector(self.xp, {g.name: a for g, a in zip(self.groups, arrays, strict=True)})


def _finite_total(losses: Array, weights: Array, batch: Batch, index: int) -> float:
    """The weighted sum of the losses, which has to be a number."""
    total = float(np.sum(losses.astype(np.float64) * weights))
    if not np.isfinite(total):
        row = int(np.argmin(np.isfinite(losses)))
        example = row * batch.examples // len(losses)
        raise infinite_loss(example, index, float(losses[row]))
    return total
