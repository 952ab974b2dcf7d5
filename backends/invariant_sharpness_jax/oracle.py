"""A JAX function and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.adapters.data import (
    Batch,
    all_examples,
    infinite_derivative,
    positive_weight,
    random_state,
)
from invariant_sharpness.adapters.outputs import CotangentRows, stacked
from invariant_sharpness.errors import DataError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import HostArrays, ParameterGroup, Rows
from invariant_sharpness_jax.dataset import Dataset
from invariant_sharpness_jax.first_examples import FirstExamples
from invariant_sharpness_jax.means import added, divided, finite_total
from invariant_sharpness_jax.precision import held, model_rounding, rounded
from invariant_sharpness_jax.program import Apply, Program, Sums
from invariant_sharpness_jax.room import room_within_limit
from invariant_sharpness_jax.trees import Arrays, Structure, arrays_of_form


class OutputForm(NamedTuple):
    """Shape and dtype of outputs that are not there yet."""

    shape: tuple[int, ...]
    dtype: Any


class JaxOracle:
    """The mean loss of a function of a tree of parameters, with its derivatives, forward over reverse.

    All sums over the data are of unnormalized losses and weights, batch by batch, and are divided once. Every
    derivative is compiled when it is first asked for, once for each shape of a batch. Arrays keep their sharding.
    Every pass over the data starts from a fixed random state: a loader that shuffles repeats its order.

    A model in half precision computes in half precision, forward and backward. Its vectors are in float32, and so are
    its losses, squares, and sums over batches.

    Parameters
    ----------
    program
        The derivatives on one batch.
    arrays
        Where the parameters are now, by name.
    structure
        The form of the user's tree.
    groups
        Roles and axes of the parameters, in the same order.
    dataset
        Batches of arrays.
    head
        The first few examples.
    head_outputs
        Shape and dtype of their outputs.
    outputs_per_example
        Number of outputs of one example.
    """

    xp = jnp

    def __init__(
        self,
        program: Program,
        arrays: Arrays,
        structure: Structure,
        groups: tuple[ParameterGroup, ...],
        dataset: Dataset,
        head: Batch,
        head_outputs: OutputForm,
        outputs_per_example: int,
    ) -> None:
        self.groups = groups
        self.outputs_per_example = outputs_per_example
        self._program = program
        self._arrays = arrays
        self._structure = structure
        self._dataset = dataset
        self._head = head
        self._first_examples = FirstExamples(dataset)
        self._head_outputs = head_outputs

    @property
    def parameters(self) -> ParameterVector:
        return self._vector(self._arrays)

    @property
    def model_rounding(self) -> float:
        return model_rounding(self._program.dtypes)

    @random_state()
    def loss(self, parameters: ParameterVector, /) -> float:
        arrays, total, weight = dict(parameters.arrays), 0.0, 0.0
        for index, batch in enumerate(self._dataset):
            sums = self._program.losses(arrays, batch)
            total, weight = total + finite_total(sums, index), weight + float(sums.weight)
        return total / positive_weight(weight)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        arrays = dict(parameters.arrays)
        return self._mean_derivative(lambda batch: self._program.gradient(arrays, batch))

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        arrays, direction = dict(parameters.arrays), dict(vector.arrays)
        return self._mean_derivative(lambda batch: self._program.product(arrays, direction, batch))

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        arrays, directions = dict(parameters.arrays), [dict(vector.arrays) for vector in vectors]
        totals: list[Arrays] | None = None
        weight = 0.0
        with random_state():
            for index, batch in enumerate(self._dataset):
                parts, sums = self._program.products(arrays, directions, batch)
                finite_total(sums, index)
                totals = parts if totals is None else [added(a, b) for a, b in zip(totals, parts, strict=True)]
                weight += float(sums.weight)
        return [self._divided(total, weight) for total in totals or []]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        arrays, direction = dict(parameters.arrays), dict(vector.arrays)
        return self._mean_derivative(lambda batch: self._program.curvature_product(arrays, direction, batch))

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        chosen = {name: array for name, array in parameters.arrays.items() if name in names}
        fixed = {name: array for name, array in parameters.arrays.items() if name not in names}
        room = room_within_limit()
        return self._mean(self._program.curvature_squares(chosen, fixed, batch, room) for batch in self._dataset)

    @property
    def samples_outputs(self) -> bool:
        return self._program.samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        chosen = {name: array for name, array in parameters.arrays.items() if name in names}
        fixed = {name: array for name, array in parameters.arrays.items() if name not in names}
        room = room_within_limit()

        def parts() -> Iterator[tuple[Arrays, jax.Array]]:
            start = 0
            for batch in self._dataset:
                rows, width = self._program.rows({**chosen, **fixed}, batch)
                signs = np.stack([random.output_signs(seed, draw, start, rows, width) for draw in draws])
                yield self._program.sampled_squares(chosen, fixed, jnp.asarray(signs.astype(np.float32)), batch, room)
                start += rows

        return self._mean(parts()) / float(len(draws))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        arrays, room = dict(parameters.arrays), room_within_limit()
        return self._mean(self._program.gradient_squares(arrays, {}, batch, room) for batch in self._dataset)

    @random_state()
    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        arrays, along, total, weight = dict(parameters.arrays), dict(direction.arrays), 0.0, 0.0
        for batch in self._dataset:
            part, part_weight = self._program.slopes(arrays, along, batch)
            total, weight = total + float(part), weight + float(part_weight)
        return total / positive_weight(weight)

    @cached_property
    @random_state()
    def examples(self) -> int:
        return self._dataset.count()

    @random_state()
    def subset(self, examples: Sequence[int], /) -> JaxOracle:
        model = self._program, self._arrays, self._structure, self.groups
        shared = self._head, self._head_outputs, self.outputs_per_example
        return JaxOracle(*model, self._dataset.subset(examples), *shared)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        outputs = self._head_outputs
        cotangents = jnp.asarray(random.cotangents(seed, outputs.shape).astype(outputs.dtype))
        arrays, along = dict(parameters.arrays), dict(direction.arrays)
        first, second = self._program.output_curvature(arrays, along, cotangents, self._head.inputs)
        return self._vector(first), self._vector(second)

    @random_state()
    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        arrays, first = dict(parameters.arrays), self._first_examples.batches(examples)
        return stacked(self._program.evaluate(arrays, batch.inputs) for batch in first)[:examples]

    @random_state()
    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        arrays, along, first = dict(parameters.arrays), dict(vector.arrays), self._first_examples.batches(examples)
        return stacked(self._program.pushforward(arrays, along, batch.inputs) for batch in first)[:examples]

    @random_state()
    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        arrays, rows = dict(parameters.arrays), CotangentRows(cotangents)
        total = jax.tree.map(jnp.zeros_like, arrays)
        for batch in self._first_examples.batches(len(rows)):
            part = self._program.pullback(arrays, self._next_cotangents(rows, batch.examples), batch.inputs)
            total = added(total, part)
        rows.check_used()
        return self._vector(total)

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self._vector({name: _placed_like(array, arrays[name]) for name, array in self._arrays.items()})

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.array(array, dtype=np.float64) for name, array in vector.arrays.items()}

    def from_tree(self, tree: Any, /) -> ParameterVector:
        """The vector of other parameters in the user's own form, such as those of a later epoch.

        ``invariant_sharpness.Moved(oracle, oracle.from_tree(parameters))`` measures there without compiling again.

        Raises
        ------
        ModelError
            If the tree has another form, shapes or dtypes.
        NonFiniteError
            If a leaf has NaN or infinite entries; names it.
        """
        dtypes = self._program.dtypes
        forms = {name: jax.ShapeDtypeStruct(array.shape, dtypes[name]) for name, array in self._arrays.items()}
        arrays = arrays_of_form(tree, self._structure, forms)
        return self._vector({name: held(array) for name, array in arrays.items()})

    def to_tree(self, vector: ParameterVector, /) -> Any:
        """The parameters in the user's own form, as ``apply`` takes them: the other way from :meth:`from_tree`."""
        return self._structure.tree(rounded(dict(vector.arrays), self._program.dtypes))

    @property
    def apply(self) -> Apply:
        """The user's function."""
        return self._program.apply

    @random_state()
    def all_examples(self) -> Batch:
        """All inputs and all targets, each in one array or nest of arrays. Raises DataError if they do not fit."""
        return all_examples(self._dataset)

    def _next_cotangents(self, rows: CotangentRows, examples: int) -> jax.Array:
        """Those of a whole batch: zero for the examples without a row."""
        _, *shape = self._head_outputs.shape
        given = rows.next_like((min(len(rows), examples), *shape))
        padded = np.zeros((examples, *shape), dtype=self._head_outputs.dtype)
        padded[: len(given)] = given
        return jnp.asarray(padded)

    def _mean_derivative(self, derivative: Callable[[Batch], tuple[Arrays, Sums]]) -> ParameterVector:
        """The mean of a derivative of the losses, which have to be finite."""

        def parts() -> Iterator[tuple[Arrays, jax.Array]]:
            for index, batch in enumerate(self._dataset):
                part, sums = derivative(batch)
                finite_total(sums, index)
                yield part, sums.weight

        return self._mean(parts())

    @random_state()
    def _mean(self, parts: Iterator[tuple[Arrays, jax.Array]]) -> ParameterVector:
        """Sum over the batches, divided once by the sum of the weights; zero for the groups that are left out."""
        total: Arrays | None = None
        weight = 0.0
        for part, part_weight in parts:
            total = part if total is None else added(total, part)
            weight += float(part_weight)
        if total is None:
            msg = "the data yielded no batch on this pass"
            raise DataError(msg)
        return self._divided(total, weight)

    def _divided(self, total: Arrays, weight: float) -> ParameterVector:
        """The mean, which has to be finite; zero for the groups that are left out."""
        mean, finite = divided(total, positive_weight(weight))
        for name, is_finite in finite.items():
            if not is_finite:
                raise infinite_derivative(name)
        zeros = {name: jnp.zeros_like(array) for name, array in self._arrays.items() if name not in mean}
        return self._vector({**mean, **zeros})

    def _vector(self, arrays: Arrays) -> ParameterVector:
        return ParameterVector(self.xp, {name: arrays[name] for name in self._structure.names})


def _placed_like(array: jax.Array, values: npt.NDArray[np.float64]) -> jax.Array:
    """Host values where ``array`` is; where JAX may choose, it goes on choosing, such as the devices of the data."""
    return jax.device_put(np.array(values, dtype=array.dtype), array.sharding if array.committed else None)
