"""Small ReLU networks on random data, the same on every backend: what metrics are tested on if nothing else is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.model_metrics import model_backend
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries import OutputScale, OutputShift, Symmetry
from invariant_sharpness.symmetries.claims import covers
from invariant_sharpness.testing.specimens import Specimen

_EXAMPLES = 24
_BATCH = 256


class ReluProblem:
    """A ReLU network with random weights on random data.

    Weights are normal with variance 1 / inputs, biases with variance 1/4: a network with zero biases could not tell who forgets them.

    Parameters
    ----------
    name
        What it is, for messages.
    sizes
        Numbers of inputs, of the units of each hidden layer, and of outputs.
    loss
        ``"cross_entropy"`` or ``"normalized_cross_entropy"``.
    biases
        Whether the layers have biases.
    examples
        Number of examples.
    seed
        Of weights and data.
    """

    def __init__(
        self,
        name: str,
        sizes: Sequence[int],
        *,
        loss: str = "cross_entropy",
        biases: bool = True,
        examples: int = _EXAMPLES,
        seed: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.name, self.loss = name, loss
        self.weights = [random.normal(size=(n, m)) / m**0.5 for m, n in pairwise(sizes)]
        self.biases = [random.normal(size=n) / 2 for n in sizes[1:]] if biases else None
        self.x: npt.NDArray[np.float64] = random.normal(size=(examples, sizes[0]))
        self.y: npt.NDArray[np.int64] = random.integers(sizes[-1], size=examples)

    def oracle(
        self, framework: str = "numpy", order: Sequence[int] | None = None, batch_size: int = _BATCH
    ) -> CurvatureOracle:
        """On a backend, with the examples in this order and in batches of this size."""
        rows = np.arange(len(self.x)) if order is None else np.asarray(order)
        data = self.x[rows], self.y[rows]
        backend = model_backend(framework)
        return backend.relu_oracle(self.weights, self.biases, data, loss=self.loss, batch_size=batch_size)

    def specimen(self, framework: str, symmetries: Sequence[Symmetry] = ()) -> Specimen:
        """The network on a backend, as one to test metrics on."""
        return Specimen(
            self.oracle(framework),
            self.name,
            symmetries,
            rebuild=lambda order, batch_size: self.oracle(framework, order, batch_size),
        )


@cache
def problems() -> tuple[ReluProblem, ReluProblem]:
    """Two hidden layers with biases, and one without."""
    return (
        ReluProblem("the network with two hidden layers", (4, 6, 5, 3)),
        ReluProblem("the network with one hidden layer and no biases", (3, 5, 3), biases=False, seed=1),
    )


def default_specimens(framework: str, claims: Collection[str]) -> list[Specimen]:
    """The default networks; symmetries of their outputs only for those who claim to survive them.

    A metric need not declare that it does not see a shift of the outputs: that is a property of the loss.
    """
    deep, plain = problems()
    bias = _last(deep.oracle(framework), "bias")
    shifts = [OutputShift(deep.oracle(framework), bias)] if covers(claims, "output_shift") else []
    specimens = [deep.specimen(framework, shifts), plain.specimen(framework)]
    if covers(claims, "output_scale"):
        normalized = ReluProblem("the network with normalized outputs", (4, 6, 3), loss="normalized_cross_entropy")
        oracle = normalized.oracle(framework)
        last = (_last(oracle, "matrix"), _last(oracle, "bias"))
        specimens.append(normalized.specimen(framework, [OutputScale(oracle, last)]))
    return specimens


def _last(oracle: CurvatureOracle, role: str) -> str:
    """Name of the last group of this role: that of the output layer."""
    return [group.name for group in oracle.groups if group.role == role][-1]
