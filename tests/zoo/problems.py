"""Hypothesis strategies: ReLU networks of both backends with data, and rescalings of their hidden units."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

TORCH_KINDS = ("torch mlp", "torch cnn")
KINDS = ("numpy mlp", *(TORCH_KINDS if find_spec("torch") else ()))


@dataclass(frozen=True)
class Problem:
    """A network on data, and the exponents of two by which its hidden units are rescaled."""

    description: str
    oracle: ish.CurvatureOracle
    exponents: tuple[tuple[int, ...], ...]

    def __repr__(self) -> str:
        return f"{self.description}, hidden units scaled by 2**{self.exponents}"

    @property
    def moved(self) -> ish.Moved:
        """The same function at rescaled parameters."""
        parameters = self.oracle.parameters
        for rescaling, exponents in zip(chain_rescalings(self.oracle.groups), self.exponents, strict=True):
            parameters = rescaling.apply(self.oracle, parameters, np.ldexp(1.0, np.array(exponents)))
        return ish.Moved(self.oracle, parameters)

    @property
    def factors(self) -> dict[str, np.ndarray]:
        """What every parameter was multiplied by, told from the parameters themselves."""
        before = self.oracle.to_numpy(self.oracle.parameters)
        after = self.oracle.to_numpy(self.moved.parameters)
        return {name: np.where(before[name] == 0, 1, after[name] / before[name]) for name in before}


@st.composite
def problems(
    draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, dtype: str = "float64", loss: str = "cross_entropy"
) -> Problem:
    """A random network with random data, and a rescaling of every hidden unit between 2**-12 and 2**12."""
    kind = draw(st.sampled_from(kinds))
    seed = draw(st.integers(0, 2**16))
    widths = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    # without biases, dead units can make all outputs equal, where the normalized loss is not defined
    biases = loss == "normalized_cross_entropy" or draw(st.booleans())
    oracle = _oracle(kind, widths, biases, seed, dtype, loss)
    rescalings = chain_rescalings(oracle.groups)
    exponents = tuple(
        tuple(draw(st.lists(st.integers(-12, 12), min_size=n, max_size=n)))
        for n in (unit_count(oracle.groups, rescaling) for rescaling in rescalings)
    )
    return Problem(f"{kind} of widths {widths}, biases={biases}, seed {seed}, {dtype}", oracle, exponents)


def _oracle(kind: str, widths: tuple[int, ...], biases: bool, seed: int, dtype: str, loss: str) -> ish.CurvatureOracle:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 6)
    if kind == "numpy mlp":
        sizes = (4, *widths, 3)
        network = ReluNetwork(
            [rng.normal(size=(n, m)) for m, n in pairwise(sizes)],
            [rng.normal(size=n) for n in sizes[1:]] if biases else None,
        )
        return NetworkOracle(network, rng.normal(size=(6, 4)), labels, loss=loss)
    from zoo.torch_networks import model_and_inputs

    model, x = model_and_inputs(kind, widths, biases=biases, seed=seed, dtype=dtype)
    return ish.oracle(model, (x, labels), loss=loss)
