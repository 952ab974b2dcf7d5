"""What an oracle does with single examples: some of them, their outputs, and the derivatives of these.

Examples have their numbers in the data of all processes. Each computes with those of them that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from invariant_sharpness import prng
from invariant_sharpness.adapters.data import Batch, Dataset, all_examples, batch_size, fingerprint, rounded
from invariant_sharpness.adapters.engine import Arrays, Engine, Point
from invariant_sharpness.adapters.first_examples import FirstExamples, SpreadExamples, tested_examples
from invariant_sharpness.adapters.outputs import CotangentRows, stacked
from invariant_sharpness.adapters.passes import Partial, in_total
from invariant_sharpness.adapters.shares import Share
from invariant_sharpness.errors import DataError
from invariant_sharpness.parameters.groups import Rows
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import Description
from invariant_sharpness.runtime.processes import Processes, everywhere, together

Self = TypeVar("Self", bound="ExamplePasses")


class ExamplePasses:
    """The methods of Jacobians, of blocks of the curvature, and of subsets."""

    engine: Engine[Any]
    processes: Processes
    outputs_per_example: int
    _fingerprint: int | None
    _dataset: Dataset[Any]
    _counted: Share | None
    _first: FirstExamples
    _spread: SpreadExamples
    _read_from: Callable[[Dataset[Any]], None]
    _cut: Callable[[Any], Iterator[tuple[int, Any]]]
    _native: Callable[[ParameterVector], Arrays]
    _vector: Callable[[Arrays], ParameterVector]
    _reading: Callable[[], AbstractContextManager[None]]
    _ask: Callable[[str], None]
    _added: Callable[[Callable[[], Partial]], Partial]
    _measuring: Callable[[ParameterVector], AbstractContextManager[Point[Any]]]

    @property
    def examples(self) -> int:
        """Number of examples in a pass. Cost: one pass over the data, without the model."""
        return self._share.total

    def description(self) -> Description:
        """The loss and the data. Data that do not lie in memory, which are known not to change, are read once."""
        prints = everywhere(self.processes, self._own_fingerprint)
        data = f"{sum(prints) % 2**64:016x}"
        return Description(self.engine.loss_description, data, self.examples, self.outputs_per_example)

    def _own_fingerprint(self) -> int:
        """The fingerprint of the examples of this process."""
        if self._fingerprint is not None:
            return self._fingerprint
        with self._reading():
            found = sum(fingerprint(rounded(self.engine.host_rows(batch))) for batch in self._dataset) % 2**64
        self._fingerprint = None if self._dataset.batches.static else found
        return found

    def subset(self: Self, examples: Sequence[int], /) -> Self:
        part = copy(self)
        part._read_from(together(self.processes, self._chosen(examples), lambda _: None)[0])
        return part

    def _chosen(self, examples: Sequence[int]) -> Callable[[], Dataset[Any]]:
        """Read those of the examples that this process has."""
        here = examples if self.processes.size == 1 else self._share.chosen(examples)

        def read() -> Dataset[Any]:
            with self._reading():
                return self._dataset.subset(here)

        return read

    def all_examples(self) -> Batch:
        """Return all inputs and all targets, each in one array or nest of arrays.

        Raises
        ------
        DataError
            If examples have different shapes, or other processes have some of them.
        """
        if self.processes.size > 1:
            msg = (
                f"{self.processes.size} processes have the data together, and this needs all examples in one: build the oracle "
                f"without process_group, on all the data, in one of the processes"
            )
            raise DataError(msg)
        with self._reading():
            return all_examples(self._dataset)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        names = frozenset(group.name for group in self.engine.groups)
        return self.block_curvature(parameters, direction, names, tested_examples(self.examples), seed)

    def block_curvature(
        self,
        parameters: ParameterVector,
        direction: ParameterVector,
        /,
        names: frozenset[str],
        examples: int,
        seed: int,
    ) -> tuple[ParameterVector, ParameterVector]:
        along = {name: array for name, array in self._native(direction).items() if name in names}
        share = self._share
        self._ask(f"{sorted(names)} {examples} {seed}")

        def curvature() -> Partial:
            total: tuple[Arrays, ...] | None = None
            with self._measuring(parameters) as point:
                tested, start = self._spread.examples(self._differentiated(examples), share)
                for batch in (part for whole in tested for _, part in self._cut(whole)):
                    cotangents = partial(prng.cotangents, seed, start=start)
                    total = in_total(self.engine, total, point.output_curvature(along, cotangents, batch))
                    start += batch_size(batch)
            return Partial(total)

        first, second = self._added(curvature).arrays or ({}, {})
        return self._vector(first), self._vector(second)

    def _differentiated(self, examples: int) -> int:
        """On how many examples the outputs are differentiated twice; another number would be compiled anew on some engines."""
        return max(examples, tested_examples(self.examples)) if self.engine.fixed_shapes else examples

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        return self._rows(parameters, examples, lambda point, batch: point.evaluate(batch)[0])

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        along = self._native(vector)
        return self._rows(parameters, examples, lambda point, batch: point.pushforward(along, batch))

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        rows = self._own_rows(CotangentRows(cotangents))

        def pullback() -> Partial:
            total: tuple[Arrays, ...] | None = None
            with self._measuring(parameters) as point:
                for batch in self._first_pieces(len(rows)):
                    total = in_total(self.engine, total, (point.pullback(rows, batch),))
            rows.check_used()
            return Partial(total)

        arrays = self._added(pullback).arrays
        return self._vector(arrays[0] if arrays else {})

    def _own_rows(self, rows: CotangentRows) -> CotangentRows:
        """Those of the examples that this process has."""
        if self.processes.size == 1:
            return rows
        rows.part(self._share.total).check_used()
        start = self._share.start
        return rows.part(start, start + self._share.size)

    @property
    def _share(self) -> Share:
        """Which examples this process has; counted once."""
        if self._counted is None:
            self._counted = Share.of(self.processes.rank, everywhere(self.processes, self._count))
        return self._counted

    def _count(self) -> int:
        with self._reading():
            return self._dataset.count()

    def _first_pieces(self, examples: int) -> Iterator[Any]:
        """The first examples of a pass, in pieces within the memory limit."""
        return (part for batch in self._first.batches(examples) for _, part in self._cut(batch))

    def _rows(self, parameters: ParameterVector, examples: int, function: Callable[[Point[Any], Any], Any]) -> Rows:
        """What a function of the first examples gives, one row for each."""
        here = examples if self.processes.size == 1 else self._share.among_first(examples)

        def rows() -> list[Any]:
            with self._measuring(parameters) as point:
                return [self.engine.read(function(point, batch)) for batch in self._first_pieces(here)]

        return stacked(chain.from_iterable(everywhere(self.processes, rows)))[:examples]
