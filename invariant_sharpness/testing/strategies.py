"""Hypothesis strategies: small networks, data, symmetries and scales, for properties of your own.

What they draw shrinks to the smallest example and prints as a sentence, such as ``layer 0 unit 0 scaled by 2**1``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import missing_dependency
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness.testing.default_networks import ReluProblem
from invariant_sharpness.testing.rescaled import RescaledGenerators, RescaledNetwork, RescaledUnits
from invariant_sharpness.testing.specimens import Specimen

try:
    from hypothesis import strategies as st
except ImportError as cause:
    error = missing_dependency("hypothesis", "testing", "invariant_sharpness.testing.strategies")
    raise error from cause

_INPUTS, _CLASSES, _MOST_EXAMPLES = 3, 3, 8
_MOST_LAYERS, _MOST_UNITS = 3, 5
_MOST_RESCALED = 6


def exponents(largest: int = 12) -> st.SearchStrategy[int]:
    """Integers from ``-largest`` to ``largest`` but zero: products with such powers of two are exact."""
    return st.integers(-largest, largest).filter(bool)


def scales(largest: int = 12) -> st.SearchStrategy[float]:
    """Powers of two but one, from ``2**-largest`` to ``2**largest``; the simplest is 2."""
    return exponents(largest).map(lambda exponent: 2.0**exponent)


@st.composite
def data(
    draw: st.DrawFn, inputs: int = _INPUTS, classes: int = _CLASSES
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Normal inputs and labels at random, of one to eight examples."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    examples = draw(st.integers(1, _MOST_EXAMPLES))
    return random.normal(size=(examples, inputs)), random.integers(classes, size=examples)


@st.composite
def networks(draw: st.DrawFn, framework: str = "numpy", loss: str = "cross_entropy") -> Specimen:
    """ReLU networks with one to three hidden layers of one to five units, with biases or without, on eight examples of three classes."""
    widths = draw(st.lists(st.integers(1, _MOST_UNITS), min_size=1, max_size=_MOST_LAYERS))
    biases, seed = draw(st.booleans()), draw(st.integers(0, 2**16))
    sizes = (_INPUTS, *widths, _CLASSES)
    words = "with" if biases else "without"
    name = f"a ReLU network of sizes {'-'.join(map(str, sizes))} {words} biases, seed {seed}"
    problem = ReluProblem(name, sizes, loss=loss, biases=biases, examples=_MOST_EXAMPLES, seed=seed)
    return problem.specimen(framework)


@st.composite
def symmetries(draw: st.DrawFn, specimen: Specimen, largest: int = 12) -> RescaledGenerators:
    """Rescalings that leave a network alone, found by :func:`invariant_sharpness.find_symmetries`: a few of its generators, with powers of two."""
    found = specimen.rescalings("row_column")
    if not found:
        msg = f"{specimen} has no rescaling symmetries that are found, so none can be drawn"
        raise ValueError(msg)
    chosen: Any = st.dictionaries(
        st.integers(0, len(found) - 1), exponents(largest), min_size=1, max_size=_MOST_RESCALED
    )
    return RescaledGenerators(found, draw(chosen))


@st.composite
def rescaled_networks(
    draw: st.DrawFn, framework: str = "numpy", loss: str = "cross_entropy", largest: int = 12
) -> RescaledNetwork:
    """A network of :func:`networks` with some of its hidden units rescaled: ``.oracle`` before and ``.moved`` after, the same function bit by bit."""
    specimen = draw(networks(framework, loss))
    groups = specimen.oracle.groups
    layers = enumerate(chain_rescalings(groups))
    units = [(layer, unit) for layer, rescaling in layers for unit in range(unit_count(groups, rescaling))]
    chosen = st.dictionaries(st.sampled_from(units), exponents(largest), min_size=1, max_size=_MOST_RESCALED)
    return RescaledNetwork(specimen, RescaledUnits(specimen.oracle, draw(chosen)))
