"""The TensorFlow engine: a Keras model or a ``tf.Module`` with a loss. Vectors are NumPy arrays, sums stay tensors until they are read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from invariant_sharpness.adapters import Cotangents, EngineDefaults, Sums
from invariant_sharpness.adapters.data import Batch, batch_size
from invariant_sharpness.adapters.engine import Arrays, CotangentsOf
from invariant_sharpness.adapters.host_engine import blocks_and_rest
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.loss_terms import RowTerms, cotangent_terms
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.adapters.sample_weights import check_weights, without_weights
from invariant_sharpness.adapters.whole_batches import Examples, of_example
from invariant_sharpness.errors import ModelError
from invariant_sharpness.losses import FunctionLoss, PositionLoss
from invariant_sharpness.losses.labels import are_probabilities
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.protocol import (
    EVERY_CAPABILITY,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ResidualDiagonalOracle,
)
from invariant_sharpness_keras.batch import host_batch, host_rows
from invariant_sharpness_keras.losses import Loss, number_of_rows
from invariant_sharpness_keras.models import host_values, rounding, tensor_of
from invariant_sharpness_keras.output_losses import loss_of_batches
from invariant_sharpness_keras.tensorflow_forms import form_of_slopes, told_shape
from invariant_sharpness_keras.tensorflow_functions import check_loss_of_outputs, loss_terms, weights_of_rows
from invariant_sharpness_keras.tensorflow_graphs import Graphs, may_read_shapes, without_retracing_warnings
from invariant_sharpness_keras.tensorflow_models import Tensors, parameter_function
from invariant_sharpness_keras.tensorflow_own_derivatives import has_own_derivatives
from invariant_sharpness_keras.tensorflow_residuals import LayerResiduals
from invariant_sharpness_keras.tensorflow_squares import LayerSquares

Tensor = Any

_VECTORS = 4
"""So many products share a graph; more of them save little, and take longer to compile."""


class TensorflowEngine(EngineDefaults):
    """A model and a loss.

    Parameters
    ----------
    model
        A ``keras.Model`` or a ``tf.Module``.
    loss
        The loss of its outputs.
    variables
        Those that are measured.
    groups
        Their descriptions, in the same order.
    examples
        Whether an example is a row of a batch, or a whole batch.
    """

    name = "TensorFlow"
    xp = xp
    traced = True
    offers = EVERY_CAPABILITY | {ResidualDiagonalOracle, OneByOneOracle, OutputFormOracle}

    def __init__(
        self,
        model: Any,
        loss: Loss,
        variables: Sequence[Any],
        groups: tuple[ParameterGroup, ...],
        examples: Examples = "rows",
    ) -> None:
        self.groups = groups
        self.eps = rounding(model)
        self.examples: Examples = examples
        self.loss = loss if examples == "rows" else loss_of_batches(loss)
        self.terms = loss_terms(self.loss)
        self.reduction = self.loss.reduction
        self.loss_description = loss.description
        self._of_rows = RowTerms(loss, xp) if isinstance(loss, PositionLoss) and examples == "batches" else None
        self.rows_of_targets = False  # whether targets have one number for each output, which the first batch tells
        self.function = parameter_function(model, examples)
        self.graphs = Graphs(self.function, self.loss, of_one_shape=may_read_shapes(loss))
        self.layer_squares = LayerSquares(model if examples == "rows" else None, self.graphs)
        self.layer_residuals = LayerResiduals(groups, self.layer_squares)
        self._variables = variables
        self._dtypes = {group.name: value.dtype for group, value in zip(groups, host_values(variables), strict=True)}

    @property
    def samples_outputs(self) -> bool:
        return self.terms.samples_outputs

    def parameters(self) -> Arrays:
        pairs = zip(self.groups, map(tensor_of, self._variables), strict=True)
        return {group.name: np.array(tf.convert_to_tensor(variable)) for group, variable in pairs}

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {name: np.array(arrays[name], dtype=dtype) for name, dtype in self._dtypes.items()}

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}

    def native(self, arrays: Arrays, /) -> Arrays:
        return {name: tf.constant(np.asarray(array, dtype=self._dtypes[name])) for name, array in arrays.items()}

    def portable(self, arrays: Arrays, /) -> Arrays:
        return {name: np.array(array) for name, array in arrays.items()}

    def batch(self, given: Any, /) -> Batch:
        return host_batch(given, next(iter(self._dtypes.values())), self.examples)

    def host_rows(self, batch: Batch, /) -> Sequence[npt.NDArray[Any]]:
        return host_rows(batch)

    def inspected(self, tree: Any, /) -> Any:
        return np.array(tree) if tf.is_tensor(tree) else tree

    def check_loss(self, outputs: Tensor, targets: Any, /) -> None:
        on_host = np.array(outputs)
        if self._of_rows is not None:
            self._of_rows.check(on_host[0], of_example(targets))
        if isinstance(self.loss, FunctionLoss):
            given, named = without_weights(targets), zip(self.groups, self._variables, strict=True)
            self.terms.loss.check(outputs, tf.nest.map_structure(tf.constant, given))
            variables = {group.name: variable for group, variable in named}
            check_loss_of_outputs(self.loss.name, self.graphs.losses_of_outputs, outputs, given, variables)
            check_weights(xp, targets, len(on_host), len(on_host))
        else:
            self.terms.check(on_host, targets)
            self.rows_of_targets = are_probabilities(on_host, without_weights(targets))

    def may_deceive(self, batch: Batch, /) -> bool:
        """Return whether the model has parts that may have derivatives of the user's own, or none."""
        with self.at(self.native(self.parameters())) as point:
            return has_own_derivatives(point.graph_of_outputs(batch))

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[TensorflowPoint]:
        values = [parameters[group.name] for group in self.groups]
        with without_retracing_warnings(), self.function.at(values):
            yield TensorflowPoint(self, values)

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return {name: array + part[name] for name, array in total.items()}

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return {name: array / weight for name, array in total.items()}

    def finite(self, arrays: Arrays, /) -> Tensor:
        return tf.stack([tf.reduce_all(tf.math.is_finite(array)) for array in arrays.values()])

    def read(self, tree: Any, /) -> Any:
        if isinstance(tree, (list, tuple)):
            return type(tree)(self.read(part) for part in tree)
        return np.array(tree, dtype=np.float64) if len(np.shape(tree)) else float(tree)


class TensorflowPoint:
    """The engine at one parameter point.

    Parameters
    ----------
    engine
        The model with its loss.
    values
        Tensors, in the order of the groups.
    """

    def __init__(self, engine: TensorflowEngine, values: Tensors) -> None:
        self._engine = engine
        self._graphs = engine.graphs
        self._values = values
        self._names = [group.name for group in engine.groups]

    def evaluate(self, batch: Batch, /) -> tuple[Tensor, Any]:
        outputs = self._run(self._graphs.outputs, batch.inputs)
        if not tf.is_tensor(outputs):
            msg = f"the model returned a {type(outputs).__name__} instead of one tensor: make a model of the output to measure"
            raise ModelError(msg)
        return outputs, batch.targets

    def graph_of_outputs(self, batch: Batch, /) -> Any:
        return self._run(self._graphs.outputs.get_concrete_function, batch.inputs).graph

    def losses(self, batch: Batch, /) -> Sums:
        _, summed = self._run(self._graphs.losses, batch.inputs, batch.targets)
        return self._sums(batch, summed)

    def row_losses(self, batch: Batch, /) -> npt.NDArray[Any]:
        losses, _ = self._run(self._graphs.losses, batch.inputs, batch.targets)
        return np.array(losses)

    def gradient(self, batch: Batch, /) -> Sums:
        gradient, summed = self._differentiate(self._graphs.loss_gradient, batch.inputs, batch.targets)
        return self._sums(batch, summed, gradient)

    def hessian_products(self, vectors: Sequence[Arrays], batch: Batch, /) -> Sums:
        along = [self._listed(vector) for vector in vectors]
        products: list[Tensors] = []
        for part in blocks_and_rest(len(along), _VECTORS):
            found, summed = self._differentiate(self._graphs.loss_products, along[part], batch.inputs, batch.targets)
            products += found
        return self._sums(batch, summed, *products)

    def gauss_newton_product(self, vector: Arrays, batch: Batch, /) -> Sums:
        graph, along = self._graphs.curvature_product, self._listed(vector)
        product, summed = self._differentiate(graph, along, batch.inputs, batch.targets)
        return self._sums(batch, summed, product)

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Batch, /) -> Sums:
        """The factors of the loss are made on the host: TensorFlow's tensors have no array namespace."""
        outputs, terms = np.array(self.evaluate(batch)[0]), self._engine.terms
        signed = cotangent_terms(terms, cotangents, outputs, batch.targets, lambda array: array.astype(outputs.dtype))
        wanted = frozenset(index for index, name in enumerate(self._names) if name in names)
        squares = self._engine.layer_squares
        found = squares(self._differentiate, self._values, wanted, batch.inputs, signed, outputs)
        weights = weights_of_rows(self._engine.loss, outputs, without_weights(batch.targets))
        total = {self._names[index]: found[index] for index in sorted(wanted)}
        return Sums(float(np.sum(weights)), len(weights), (total,))

    def squared_one_by_one(self, batch: Batch, /) -> frozenset[str]:
        at = self._engine.layer_squares.sites(self._differentiate, self._values, batch.inputs)
        ruled = {index for site in at.sites for index in site.variables.values()}
        return frozenset(name for index, name in enumerate(self._names) if index not in ruled)

    def layer_moments(self, batch: Batch, /) -> LayerMoments:
        return self._engine.layer_residuals.moments(self._differentiate, self._values, batch)

    def residual_squares(self, perturbations: Perturbations, batch: Batch, /) -> Sums:
        found = self._engine.layer_residuals.sums(self._differentiate, self._values, perturbations, batch)
        return self.losses(batch)._replace(arrays=(found,), value=None)

    def slopes(self, vector: Arrays, batch: Batch, /) -> Sums:
        graph, along = self._graphs.loss_slopes, self._listed(vector)
        return self._sums(batch, self._differentiate(graph, along, batch.inputs, batch.targets))

    def pushforward(self, vector: Arrays, batch: Batch, /) -> Tensor:
        return self._differentiate(self._graphs.output_slopes, self._listed(vector), batch.inputs)

    def pullback(self, cotangents: CotangentRows, batch: Batch, /) -> Arrays:
        rows = cotangents.next_like(self._shape_of_outputs(batch))
        return self._named(self._differentiate(self._graphs.output_gradient, batch.inputs, rows))

    def output_curvature(self, direction: Arrays, cotangents: CotangentsOf, batch: Batch, /) -> tuple[Arrays, Arrays]:
        rows, form = cotangents(self._shape_of_outputs(batch)), self.output_form(batch)
        first = self._named(self._differentiate(self._graphs.output_gradient, batch.inputs, rows))
        zeros, curved = self._zeros(), direction.keys() & (form.curved | form.unknown)
        blocks = {name: zeros[name] for name in direction}
        for name in curved:  # one group moves, and its own block is read
            given = self._listed({**zeros, name: direction[name]}), batch.inputs, rows
            blocks[name] = self._named(self._differentiate(self._graphs.output_products, *given))[name]
        return first, blocks

    def output_form(self, batch: Batch, /) -> OutputForm:
        rows = np.zeros(self._shape_of_outputs(batch))
        traced = self._differentiate(self._graphs.output_gradient.get_concrete_function, batch.inputs, rows)
        return form_of_slopes(traced, self._graphs.function.placeholders(traced.graph), self._names)

    def _shape_of_outputs(self, batch: Batch) -> tuple[int, ...]:
        """They are computed where their graph does not tell it."""
        told = told_shape(self.graph_of_outputs(batch), batch_size(batch))
        return tuple(self.evaluate(batch)[0].shape) if told is None else told

    def _zeros(self) -> Arrays:
        return {name: tf.zeros_like(value) for name, value in zip(self._names, self._values, strict=True)}

    def _run(self, graph: Callable[..., Any], *arguments: Any) -> Any:
        return graph(self._values, *tf.nest.map_structure(tf.convert_to_tensor, arguments))

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

    def _sums(self, batch: Batch, summed: tuple[Tensor, Tensor], *arrays: Tensors) -> Sums:
        value, weight = summed
        rows = number_of_rows(self._engine.loss, batch, rows_of_targets=self._engine.rows_of_targets)
        return Sums(weight, rows, tuple(map(self._named, arrays)), value)

    def _listed(self, vector: Arrays) -> Tensors:
        return [vector[name] for name in self._names]

    def _named(self, arrays: Tensors) -> Arrays:
        return dict(zip(self._names, arrays, strict=True))
