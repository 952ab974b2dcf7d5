"""The mean loss over a data set, with all its derivatives: the one pass over the data, for every framework."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.adapters.data import PASS_SEED, Dataset, batch_size, take
from invariant_sharpness.adapters.engine import Arrays, Cotangents, Engine, Point, Sums
from invariant_sharpness.adapters.first_examples import FirstExamples, SpreadExamples
from invariant_sharpness.adapters.hessian_passes import HessianPasses
from invariant_sharpness.adapters.passes import (
    Partial,
    Piece,
    Told,
    Total,
    added,
    checked_total,
    constant_outputs,
    depends,
    in_total,
)
from invariant_sharpness.parameters.fitting import require_fitting
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import DescribedOracle, GaussNewtonDiagonalOracle
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness.runtime.processes import ALONE, Processes, everywhere

_COMPARED = 16
"""So many entries of each array of a vector are compared among processes."""

Self = TypeVar("Self", bound="DatasetOracle")


class DatasetOracle(HessianPasses):
    r"""The mean loss :math:`L(\theta) = \sum_r w_r \ell_r / \sum_r w_r` over a data set, as a curvature oracle.

    Every method is one pass over the data. Batches are cut into pieces within the memory limit; the engine's sums over them are added
    where they are, over processes too, read once, checked, and divided once by the sum of the weights. So class weights, ignored
    labels and a short last batch are exact, and no value depends on how the data are cut. A loss with ``reduction="sum"`` is not
    divided, nor is any of its derivatives.

    Parameters
    ----------
    engine
        The model with its loss.
    dataset
        The batches of this process, in the engine's form.
    outputs_per_example
        The largest number of outputs that an example has.
    processes
        Those that have the data together: every result is that of all the data, and the same on each of them.
    """

    def __init__(
        self, engine: Engine[Any], dataset: Dataset[Any], outputs_per_example: int, processes: Processes = ALONE
    ) -> None:
        self.engine = engine
        self.processes = processes
        self.outputs_per_example = outputs_per_example
        self._asked: list[str] = []
        self._read_from(dataset)

    def _read_from(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset
        self._first = FirstExamples(dataset, whole=self.engine.fixed_shapes)
        self._spread = SpreadExamples(dataset)
        self._has_derivatives = False
        self._counted = None
        self._fingerprint = None
        self.__dict__.pop("_first_row", None)

    @property
    def xp(self) -> Any:
        return self.engine.xp

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        return self.engine.groups

    @property
    def offers(self) -> frozenset[type]:
        """The capabilities of this oracle: those that the engine has for this model, and a description of loss and data."""
        return self.engine.offers | {DescribedOracle}

    @property
    def parameters(self) -> ParameterVector:
        """The parameters of the model as it is between two passes: during one, it may hold others."""
        with exclusive():
            return ParameterVector(self.xp, self._in_order(self.engine.parameters()))

    @property
    def model_rounding(self) -> float:
        return self.engine.eps

    def loss(self, parameters: ParameterVector, /) -> float:
        return self._mean_value(parameters, lambda point, piece: point.losses(piece.batch))

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        return self._means(parameters, lambda point, piece: point.gradient(piece.batch))[0]

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        along = self._native(vector)
        return self._means(parameters, lambda point, piece: point.gauss_newton_product(along, piece.batch))[0]

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        cotangents, told = Cotangents("curvature"), Told("exact diagonal", self.outputs_per_example)
        return self._means(parameters, lambda point, piece: point.squares(names, cotangents, piece.batch), told)[0]

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        """Whether the loss is the mean over the data, or the sum, which has no divisor."""
        return self.engine.reduction

    @property
    def samples_outputs(self) -> bool:
        return self.engine.samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        first = self._first_row
        self._ask(f"{draws} {seed}")

        def squares(point: Point[Any], piece: Piece) -> Sums:
            return point.squares(names, Cotangents("sampled", Draws(draws, seed, first + piece.row)), piece.batch)

        return self._means(parameters, squares)[0] / float(len(draws))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        names, cotangents = frozenset(group.name for group in self.groups), Cotangents("gradient")
        told = Told("squared gradients", 1.5)
        return self._means(parameters, lambda point, piece: point.squares(names, cotangents, piece.batch), told)[0]

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        along = self._native(direction)
        return self._mean_value(parameters, lambda point, piece: point.slopes(along, piece.batch))

    def with_engine(self: Self, engine: Engine[Any]) -> Self:
        """The oracle of another engine on the same data, which it takes as this one's engine has made them."""
        other, batches = copy(self), self._dataset
        other.engine = engine
        other._read_from(replace(batches, convert=engine.batch, rows=engine.host_rows, expected=None))
        return other

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return ParameterVector(self.xp, self._in_order(self.engine.from_numpy(arrays)))

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return self.engine.to_numpy(dict(vector.arrays))

    def _means(
        self,
        parameters: ParameterVector,
        sums_of: Callable[[Point[Any], Piece], Sums],
        told: Told | None = None,
    ) -> list[ParameterVector]:
        return self._mean_vectors(parameters, self._pass(parameters, sums_of, told))

    def _mean_vectors(self, parameters: ParameterVector, total: Total) -> list[ParameterVector]:
        means = self._vectors(*(self.engine.divide(arrays, total.weight) for arrays in total.arrays))
        entries = (array for mean in means for array in mean.arrays.values())
        self._has_derivatives = self._has_derivatives or any(bool(self.xp.any(array != 0)) for array in entries)
        if not self._has_derivatives and GaussNewtonDiagonalOracle in self.offers:
            self._has_derivatives = self._require_derivatives(parameters)
        return means

    def _require_derivatives(self, parameters: ParameterVector) -> bool:
        """Raise where the outputs are constant, here, with other signs, and elsewhere: units that are off, and weights of zero, act there."""
        flipped = (parameters * prng.signs(self, 0, number) for number in range(4))
        for at in (parameters, *flipped, *(prng.uniform(self, 0, number) for number in range(4, 8))):
            if any(everywhere(self.processes, partial(self._depends, at))):
                return True
        raise constant_outputs()

    def _depends(self, parameters: ParameterVector) -> bool:
        """Whether an output of this process's examples depends on any parameter."""
        with self._measuring(parameters) as point:
            return depends(self.engine, point, self._native(parameters), (piece.batch for piece in self._pieces()))

    def _mean_value(self, parameters: ParameterVector, sums_of: Callable[[Point[Any], Piece], Sums]) -> float:
        total = self._pass(parameters, sums_of)
        return total.value / total.weight

    def _pass(
        self, parameters: ParameterVector, sums_of: Callable[[Point[Any], Piece], Sums], told: Told | None = None
    ) -> Total:
        """Add up where the arrays are, over batches and processes; read once; nothing leaves that is not finite."""
        return self._total(lambda: self._sums(parameters, sums_of, told), parameters)

    def _total(self, compute: Callable[[], Partial], parameters: ParameterVector) -> Total:
        sums = self._added(compute)
        return checked_total(self.processes, self.engine, sums, lambda: self._row_losses(parameters))

    def _sums(
        self, parameters: ParameterVector, sums_of: Callable[[Point[Any], Piece], Sums], told: Told | None = None
    ) -> Partial:
        """The sums over the examples of this process, with a report after each piece if the pass takes long."""
        report = None if told is None else told.reporter(self._dataset.batches)
        arrays: tuple[Arrays, ...] | None = None
        parts: list[Sums] = []
        row = 0
        with self._measuring(parameters) as point:
            for piece in self._pieces():
                part = sums_of(point, piece._replace(row=row))
                arrays, row = in_total(self.engine, arrays, part.arrays), row + part.rows
                parts.append(part._replace(arrays=()))
                if report is not None:
                    report(piece.example + batch_size(piece.batch))
        return Partial(arrays, parts)

    @cached_property
    def _first_row(self) -> int:
        """The number of this process's first row of the loss. Cost: one pass over the data, if there are several processes."""
        if self.processes.size == 1:
            return 0
        return sum(everywhere(self.processes, self._count_rows)[: self.processes.rank])

    def _count_rows(self) -> int:
        counted = self._sums(self.parameters, lambda point, piece: point.losses(piece.batch))
        return sum(part.rows for part in counted.parts)

    def _row_losses(self, parameters: ParameterVector) -> Iterator[tuple[Piece, npt.NDArray[Any]]]:
        """A second pass, to name the example whose loss is not finite."""
        with self._measuring(parameters) as point:
            for piece in self._pieces():
                yield piece, point.row_losses(piece.batch)

    def _pieces(self) -> Iterator[Piece]:
        """Every batch, in as few pieces as the memory limit allows for."""
        seen = 0
        for number, batch in enumerate(self._dataset):
            yield from (Piece(part, number, start, row=0, example=seen + start) for start, part in self._cut(batch))
            seen += batch_size(batch)

    def _cut(self, batch: Any) -> Iterator[tuple[int, Any]]:
        """The pieces of a batch, each with the number of its first example."""
        examples, size = batch_size(batch), self.engine.examples_at_once(batch)
        for start in range(0, examples, size):
            yield start, batch if size >= examples else take(batch, start, start + size)

    @contextmanager
    def _measuring(self, parameters: ParameterVector) -> Generator[Point[Any]]:
        arrays = self._native(parameters)
        with self._reading(), self.engine.at(arrays) as point:
            yield point

    @contextmanager
    def _reading(self) -> Generator[None]:
        """Every pass starts from the same random state: a loader that shuffles repeats its order."""
        with exclusive(), self.engine.random_state(PASS_SEED, self._dataset.batches.source):
            yield

    def _native(self, vector: ParameterVector) -> Arrays:
        """The arguments of a generator are read one by one, before anything of the model is touched."""
        arrays = require_fitting(vector, self.groups, "the arrays").arrays
        native = self.engine.native(self._in_order(dict(arrays)))
        self._ask(self._beginning(native) if self.processes.size > 1 else "")
        return native

    def _beginning(self, arrays: Arrays) -> str:
        """A few characters for the first entries of every array, which differ for vectors that were drawn with different seeds."""
        entries = self.engine.read([array.reshape(-1)[:_COMPARED] for array in arrays.values()])
        return f"{crc32(b''.join(part.tobytes() for part in entries)):x}"

    def _ask(self, words: str) -> None:
        """Keep in mind what the next sums depend on, to compare it with what other processes were asked."""
        if self.processes.size > 1:
            self._asked.append(words)

    def _added(self, compute: Callable[[], Partial]) -> Partial:
        """Add up over all processes, if all are asked for the same."""
        try:
            return added(self.processes, self.engine, compute, lambda: " ".join(self._asked))
        finally:
            self._asked.clear()

    def _vector(self, arrays: Arrays) -> ParameterVector:
        return self._vectors(arrays)[0]

    def _vectors(self, *sums: Arrays) -> list[ParameterVector]:
        """The vectors of sums over the same groups; zero in those that they leave out, and these zeros are shared."""
        missing = {group.name for group in self.groups}.difference(*sums)
        at = self.engine.parameters() if missing else {}
        zeros = {name: self.xp.zeros_like(at[name]) for name in missing}
        return [ParameterVector(self.xp, self._in_order({**self.engine.portable(a), **zeros})) for a in sums]

    def _in_order(self, arrays: Arrays) -> Arrays:
        return {group.name: arrays[group.name] for group in self.groups}
