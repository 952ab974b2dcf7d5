"""What the numbers of a measurement depend on beside the model: what two of them must have in common to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, cast

from invariant_sharpness.protocol import CurvatureOracle, DescribedOracle, capability, innermost, machine_epsilon
from invariant_sharpness.protocol.capabilities import CoordinateOracle

_PRECISIONS = {2.0**-52: "float64", 2.0**-23: "float32", 2.0**-10: "float16", 2.0**-7: "bfloat16"}
"""The names of dtypes by their machine epsilon."""

_DIGITS = 8
"""So many digits of the fingerprint of the data are shown."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the numbers of a measurement depend on beside the model.

    Parameters
    ----------
    loss
        The loss in words; empty if the oracle does not describe it.
    data
        The fingerprint of the set of examples; empty if the oracle has none.
    examples, outputs
        The number of examples, and of the outputs of one; None if they are not known.
    precision
        The dtype of the model's arithmetic: that of its least precise parameter.
    epsilon
        Its machine epsilon.
    oracle, coordinates
        Type of the oracle, and of the coordinates around it, from the outermost one.
    seed, probes, budget
        As in :func:`invariant_sharpness.measure`; there are no probes where there is a budget.
    version
        Version of the library.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> conditions = Conditions.of(quadratic(np.eye(1), [[2.0]]), seed=3, probes=16)
    >>> conditions.precision, conditions.seed, conditions.loss
    ('float64', 3, '')
    """

    loss: str
    data: str
    examples: int | None
    outputs: int | None
    precision: str
    epsilon: float
    oracle: str
    coordinates: tuple[str, ...]
    seed: int
    probes: int | None
    budget: float | None
    version: str

    @classmethod
    def of(cls, oracle: CurvatureOracle, *, seed: int, probes: int, budget: float | None = None) -> Conditions:
        """Describe a measurement. Cost: one pass over the data, without the model."""
        able = capability(innermost(oracle), DescribedOracle)
        told = None if able is None else able.description()
        epsilon = machine_epsilon(oracle)
        return cls(
            loss="" if told is None else told.loss,
            data="" if told is None else told.data,
            examples=None if told is None else told.examples,
            outputs=None if told is None else told.outputs,
            precision=_PRECISIONS.get(epsilon, f"precision {epsilon:.1e}"),
            epsilon=epsilon,
            oracle=type(innermost(oracle)).__name__,
            coordinates=tuple(_coordinates(oracle)),
            seed=seed,
            probes=probes if budget is None else None,
            budget=budget,
            version=version("invariant-sharpness"),
        )

    def __str__(self) -> str:
        words = [
            self.loss,
            "" if self.examples is None else f"{self.examples} examples",
            f"data {self.data[:_DIGITS]}" if self.data else "",
            self.precision,
            f"seed {self.seed}",
            f"{self.probes} probes" if self.budget is None else f"{self.budget:g} gradients",
            " of ".join((*self.coordinates, self.oracle)),
            f"invariant-sharpness {self.version}",
        ]
        return "; ".join(filter(None, words))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return asdict(self) | {"coordinates": list(self.coordinates)}


def _coordinates(oracle: CurvatureOracle) -> Iterator[str]:
    while oracle is not innermost(oracle):
        yield type(oracle).__name__
        oracle = cast(CoordinateOracle, oracle).base
