"""The oracle of a module whose parameters are divided: all processes run the model equally often, whatever part of the data they have."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn
from zlib import crc32

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Dataset, check_inputs, take
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from invariant_sharpness.adapters.engine import Arrays, Cotangents
from invariant_sharpness.adapters.passes import Piece, different_arguments
from invariant_sharpness.parameters.groups import HostArrays
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.runtime.processes import ALONE, Processes, everywhere, together
from invariant_sharpness_torch.processes import ProcessGroup
from invariant_sharpness_torch.sharded_engine import ShardedEngine
from invariant_sharpness_torch.sharded_point import Spare, no_single_examples


class GradientsAdded(ProcessGroup):
    """Processes whose gradients are added as the model computes them: each holds its shards of the sum."""

    def add(self, array: Any, holders: Sequence[bool], /) -> Any:
        return array


@dataclass(frozen=True, slots=True)
class InStep(Dataset[Any]):
    """Batches of this process, and spare ones where others have more.

    Parameters
    ----------
    processes
        Those that compute together.
    spare
        An example that any process may compute with; None if no process has one.
    """

    processes: Processes = ALONE
    spare: Any = None

    def __iter__(self) -> Iterator[Any]:
        own = enumerate(Dataset.__iter__(self))

        def following() -> Any:
            number, batch = next(own, (0, None))
            if batch is not None:
                check_inputs(batch, number)
            return batch

        while True:
            batch, has_one = together(self.processes, following, lambda found: found is not None)
            if not any(has_one):
                return
            yield Spare(self.spare) if batch is None else batch

    def subset(self, examples: Sequence[int]) -> Dataset[Any]:
        return self.holding(self._own().subset(examples).batches.source)  # type: ignore[arg-type]  # a list

    def count(self) -> int:
        return self._own().count()

    def _own(self) -> Dataset[Any]:
        """The batches of this process alone."""
        return Dataset(self.batches, self.convert, self.rows, self.expected, self.may_be_empty)


def in_step(dataset: Dataset[Any], processes: Processes) -> Dataset[Any]:
    """Return the data set with as many batches in each process as the one that has most."""
    first = everywhere(processes, lambda: next((take(batch, 0, 1) for batch in dataset), None))
    found = first[processes.rank], *first
    spare = next((dataset.convert(one) for one in found if one is not None), None)
    parts = dataset.batches, dataset.convert, dataset.rows, dataset.expected, dataset.may_be_empty
    return InStep(*parts, processes, spare)


class ShardedOracle(DatasetOracle):
    """The mean loss of a module with divided parameters; products with second derivatives are central differences.

    Parameters
    ----------
    engine
        The module with its loss.
    dataset
        Batches of tensors, as many in every process.
    outputs_per_example
        The largest number of outputs that an example has.
    processes
        Those that have the data together.
    computing
        Those that compute together: the same, or under tensor parallelism those that have the same data.
    """

    engine: ShardedEngine

    def __init__(
        self,
        engine: ShardedEngine,
        dataset: Dataset[Any],
        outputs_per_example: int,
        processes: Processes,
        computing: Processes,
    ) -> None:
        super().__init__(engine, dataset, outputs_per_example, processes)
        self.model = engine.model
        self.computing = computing

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        """Divide arrays that all processes have, which are compared: of another seed in one process nothing would tell later."""
        found = everywhere(self.computing, lambda: crc32(b"".join(np.asarray(a).tobytes() for a in arrays.values())))
        if len(set(found)) > 1:
            raise different_arguments()
        return super().from_numpy(arrays)

    @property
    def differences_taken(self) -> int:
        """How many differences were computed so far."""
        return self.engine.differences.taken

    @contextmanager
    def other_step(self, factor: float, /) -> Generator[None]:
        """Take steps that are longer by this factor."""
        differences = self.engine.differences
        usual = differences.step
        differences.step = factor * usual
        try:
            yield
        finally:
            differences.step = usual

    def _beginning(self, arrays: Arrays) -> str:
        """Nothing: each process has other shards. Vectors are compared when they are divided."""
        return ""

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        r"""The mean of :math:`(\sum_n J_n^T R_n \varepsilon_n)^2` over the draws: the signs of different examples are independent, so products of them vanish on average.

        Cost: one gradient a draw.
        """
        total = self._squared(parameters, draws[0], seed)
        for draw in draws[1:]:
            total = total + self._squared(parameters, draw, seed)
        return (total / float(len(draws))).only(names)

    def _squared(self, parameters: ParameterVector, draw: int, seed: int) -> ParameterVector:
        first = self._first_row

        def pulled_back(point: Any, piece: Piece) -> Any:
            signs = Draws(range(draw, draw + 1), seed, first + piece.row)
            return point.sampled_pullback(Cotangents("sampled", signs), piece.batch)

        total = self._pass(parameters, pulled_back)
        pulled = self._vector(total.arrays[0])
        return pulled * pulled / total.weight

    def gradient_second_moment(self, parameters: ParameterVector, /) -> NoReturn:
        raise no_single_examples()

    def _row_losses(self, parameters: ParameterVector) -> Iterator[tuple[Piece, npt.NDArray[Any]]]:
        """All of them, whichever is not finite: the other processes go on."""
        return iter(list(super()._row_losses(parameters)))
