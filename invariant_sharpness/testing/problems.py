"""Test problems for metrics: a network with what is known of it, and the small ReLU networks that are the default."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import model_backend
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, supports
from invariant_sharpness.symmetries import (
    OutputScale,
    OutputShift,
    Symmetries,
    Symmetry,
    UnitPermutation,
    chain_permutations,
    find_symmetries,
)
from invariant_sharpness.symmetries.invariances import covers

RESCALINGS = ("layer", "row_column")
"""The kinds of symmetries that are found in every network that has them."""

_NUM_EXAMPLES = 24
_BATCH_SIZE = 256


class Problem:
    """A network to test metrics on. ``Specimen`` is its old name.

    Its rescaling symmetries are found; permutations are tried, and taken if they leave the loss alone.

    Parameters
    ----------
    oracle
        The oracle of the network, at the parameters that are tested.
    name
        What the network is, for messages; by default the type of the oracle.
    symmetries
        Symmetries beyond rescalings and permutations, such as :class:`invariant_sharpness.HeadMixing`: metrics that declare their
        kind must be invariant to them, and others must not.
    rebuild
        A function ``(order, batch_size) -> oracle`` of the same network, with the examples in this order and in batches of this size.
    snapshot
        A function that returns copies of all that can be seen of the model, as something that ``==`` compares: bytes, or a
        dictionary of bytes and numbers.

    Examples
    --------
    Two layers of a ReLU network have one rescaling as whole layers, and one for each of the four hidden units.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness.testing import Problem
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> data = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    >>> problem = Problem(ish.oracle(ReluNetwork.initialize((3, 4, 2), seed=0), data), "a small network")
    >>> problem, len(problem.rescalings("layer")), len(problem.rescalings("row_column"))
    (a small network, 1, 4)
    """

    def __init__(
        self,
        oracle: CurvatureOracle,
        name: str = "",
        symmetries: Sequence[Symmetry] = (),
        rebuild: Callable[[Sequence[int], int], CurvatureOracle] | None = None,
        snapshot: Callable[[], Any] | None = None,
    ) -> None:
        self.oracle, self.name, self.symmetries = oracle, name, symmetries
        self.rebuild, self.snapshot = rebuild, snapshot

    def __repr__(self) -> str:
        return self.name or f"the {type(self.oracle).__name__}"

    def families(self, kind: str) -> list[Symmetry]:
        """Return its symmetries of this kind."""
        rescalings = [self.rescalings(kind)] if kind in RESCALINGS else []
        return [*(r for r in rescalings if r), *(s for s in self.symmetries if s.kind == kind)]

    def rescalings(self, kind: str) -> Symmetries | None:
        """Return those of single units (``"row_column"``) or whole layers (``"layer"``); None if the oracle does not show its outputs."""
        return self._rescalings if kind == "row_column" or self._rescalings is None else self._rescalings.by_layer()

    @cached_property
    def _rescalings(self) -> Symmetries | None:
        return find_symmetries(self.oracle) if supports(self.oracle, JacobianOracle) else None

    @cached_property
    def permutations(self) -> list[UnitPermutation]:
        """The permutations of a plain chain of layers, if this network is one: then they leave the loss alone."""
        return [permutation for permutation in chain_permutations(self.oracle) if self._holds(permutation)]

    def _holds(self, permutation: UnitPermutation) -> bool:
        oracle = self.oracle
        before = oracle.loss(oracle.parameters)
        try:
            points = [move.apply(oracle.parameters) for move in permutation.transformations(0).values()]
        except ValueError:  # the layers do not fit to each other
            return False
        return all(abs(oracle.loss(point) - before) <= 1e-3 * abs(before) for point in points)


class ReluTask:
    """Random weights of a ReLU network and random data, of which every backend can make an oracle.

    Weights are normal with variance 1 / inputs, biases with variance 1/4: a network with zero biases could not tell who forgets them.

    Parameters
    ----------
    name
        What the network is, for messages.
    sizes
        The numbers of inputs, of the units of each hidden layer, and of outputs.
    loss
        ``"cross_entropy"`` or ``"normalized_cross_entropy"``.
    biases
        Whether the layers have biases.
    num_examples
        How many examples the data have.
    seed
        Seed of the weights and the data.
    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[int],
        *,
        loss: str = "cross_entropy",
        biases: bool = True,
        num_examples: int = _NUM_EXAMPLES,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.name, self.loss = name, loss
        self.weights = [random.normal(size=(n, m)) / m**0.5 for m, n in pairwise(sizes)]
        self.biases = [random.normal(size=n) / 2 for n in sizes[1:]] if biases else None
        self.x: npt.NDArray[np.float64] = random.normal(size=(num_examples, sizes[0]))
        self.y: npt.NDArray[np.int64] = random.integers(sizes[-1], size=num_examples)

    def oracle(
        self, framework: str = "numpy", order: Sequence[int] | None = None, batch_size: int = _BATCH_SIZE
    ) -> CurvatureOracle:
        """Return the oracle of a backend, with the examples in this order and in batches of this size."""
        indices = np.arange(len(self.x)) if order is None else np.asarray(order)
        data = self.x[indices], self.y[indices]
        backend = model_backend(framework)
        return backend.relu_oracle(self.weights, self.biases, data, loss=self.loss, batch_size=batch_size)

    def problem(self, framework: str, symmetries: Sequence[Symmetry] = ()) -> Problem:
        """Return the test problem on a backend."""
        return Problem(
            self.oracle(framework),
            self.name,
            symmetries,
            rebuild=lambda order, batch_size: self.oracle(framework, order, batch_size),
        )


@cache
def default_tasks() -> tuple[ReluTask, ReluTask]:
    """Return a network with two hidden layers and biases, and one with one hidden layer and none."""
    return (
        ReluTask("the network with two hidden layers", (4, 6, 5, 3)),
        ReluTask("the network with one hidden layer and no biases", (3, 5, 3), biases=False, seed=1),
    )


def default_problems(framework: str, invariances: Collection[str]) -> list[Problem]:
    """Return the default networks on a backend, with symmetries of their outputs only for metrics that declare them.

    A metric need not declare that it does not see a shift of the outputs: that is a property of the loss.
    """
    deep, plain = default_tasks()
    bias = _last(deep.oracle(framework), "bias")
    shifts = [OutputShift(deep.oracle(framework), bias)] if covers(invariances, "output_shift") else []
    problems = [deep.problem(framework, shifts), plain.problem(framework)]
    if covers(invariances, "output_scale"):
        normalized = ReluTask("the network with normalized outputs", (4, 6, 3), loss="normalized_cross_entropy")
        oracle = normalized.oracle(framework)
        last = (_last(oracle, "matrix"), _last(oracle, "bias"))
        problems.append(normalized.problem(framework, [OutputScale(oracle, last)]))
    return problems


def _last(oracle: CurvatureOracle, role: str) -> str:
    """Return the name of the last group of this role, which belongs to the output layer."""
    return [group.name for group in oracle.groups if group.role == role][-1]
