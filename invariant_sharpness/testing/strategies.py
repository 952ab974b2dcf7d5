"""Hypothesis strategies: small networks, data, symmetries and scales, for properties of your own.

What they draw shrinks to the smallest example and prints as a sentence, such as ``layer 0 unit 0 scaled by 2**1``. The
classes here are no data classes, which Hypothesis prints by their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import ArgumentError, missing_dependency
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries import Symmetries, chain_rescalings, unit_count
from invariant_sharpness.testing.problems import Problem, ReluTask

try:
    from hypothesis import strategies as st
except ImportError as cause:
    error = missing_dependency("hypothesis", "testing", "invariant_sharpness.testing.strategies")
    raise error from cause

_INPUTS, _CLASSES, _MOST_EXAMPLES = 3, 3, 8
_MOST_LAYERS, _MOST_UNITS = 3, 5
_MOST_RESCALED = 6


class RescaledUnits:
    """Hidden units of a plain chain of layers, each times a power of two. Prints as ``layer 0 unit 0 scaled by 2**1``.

    Parameters
    ----------
    oracle
        The oracle of the network.
    exponents
        The exponent of each factor, by layer and unit; those that are missing are zero.
    """

    def __init__(self, oracle: CurvatureOracle, exponents: Mapping[tuple[int, int], int]) -> None:
        self.oracle, self.exponents = oracle, exponents

    def __repr__(self) -> str:
        return ", ".join(f"layer {i} unit {j} scaled by 2**{k}" for (i, j), k in sorted(self.exponents.items()))

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the rescaled parameters; those given are not touched."""
        groups = self.oracle.groups
        for layer, rescaling in enumerate(chain_rescalings(groups)):
            units = range(unit_count(groups, rescaling))
            factors = np.ldexp(1.0, [self.exponents.get((layer, unit), 0) for unit in units])
            parameters = rescaling.apply(self.oracle, parameters, factors)
        return parameters


class RescaledGenerators:
    """Found symmetries, each with a power of two. Prints as what goes up and what goes down.

    Parameters
    ----------
    symmetries
        The symmetries that were found in the network.
    exponents
        The exponent of each factor, by the number of the generator; those that are missing are zero.
    """

    def __init__(self, symmetries: Symmetries, exponents: Mapping[int, int]) -> None:
        self.symmetries, self.exponents = symmetries, exponents

    def __repr__(self) -> str:
        return "; ".join(f"{self.symmetries[i]}, by 2**{k}" for i, k in sorted(self.exponents.items()))

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the rescaled parameters; those given are not touched."""
        logarithms = np.zeros(len(self.symmetries))
        logarithms[list(self.exponents)] = list(self.exponents.values())
        return self.symmetries.rescaling(logarithms).apply(parameters)


class RescaledNetwork:
    """A network, and the same function at other parameters.

    Parameters
    ----------
    problem
        The network.
    move
        The transformation of its parameters.
    """

    def __init__(self, problem: Problem, move: RescaledUnits) -> None:
        self.problem, self.move = problem, move

    def __repr__(self) -> str:
        return f"{self.move} in {self.problem}"

    @property
    def oracle(self) -> CurvatureOracle:
        """The oracle of the network as it is."""
        return self.problem.oracle

    @property
    def moved(self) -> Moved:
        """The oracle of the same function at the rescaled parameters."""
        return Moved(self.oracle, self.move.apply(self.oracle.parameters))


def exponents(largest: int = 12) -> st.SearchStrategy[int]:
    """Draw integers from ``-largest`` to ``largest`` but zero: products with such powers of two are exact.

    Parameters
    ----------
    largest
        The largest magnitude. Default: 12, which no network of four layers overflows with.

    Returns
    -------
    SearchStrategy
        A strategy of integers; the simplest is 1.

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import exponents
    >>> find(exponents(), lambda exponent: exponent > 2)
    3
    """
    return st.integers(-largest, largest).filter(bool)


def scales(largest: int = 12) -> st.SearchStrategy[float]:
    """Draw powers of two but one, from ``2**-largest`` to ``2**largest``.

    Parameters
    ----------
    largest
        The largest magnitude of the exponent.

    Returns
    -------
    SearchStrategy
        A strategy of floats; the simplest is 2.

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import scales
    >>> find(scales(), lambda scale: True)
    2.0
    """
    return exponents(largest).map(lambda exponent: 2.0**exponent)


@st.composite
def data(
    draw: st.DrawFn, inputs: int = _INPUTS, classes: int = _CLASSES
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Draw normal inputs and random labels, of one to eight examples.

    Parameters
    ----------
    inputs
        The number of inputs of an example.
    classes
        The number of classes.

    Returns
    -------
    SearchStrategy
        A strategy of pairs ``x`` of shape (examples, inputs) and ``y`` of shape (examples,).

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import data
    >>> x, y = find(data(inputs=4), lambda pair: True)
    >>> x.shape, y.shape
    ((1, 4), (1,))
    """
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    num_examples = draw(st.integers(1, _MOST_EXAMPLES))
    return random.normal(size=(num_examples, inputs)), random.integers(classes, size=num_examples)


@st.composite
def networks(draw: st.DrawFn, framework: str = "numpy", loss: str = "cross_entropy") -> Problem:
    """Draw ReLU networks with one to three hidden layers of one to five units, with biases or without, on eight examples of three classes.

    Parameters
    ----------
    framework
        The backend that differentiates the networks. Default: NumPy, which needs nothing else.
    loss
        ``"cross_entropy"`` or ``"normalized_cross_entropy"``.

    Returns
    -------
    SearchStrategy
        A strategy of :class:`invariant_sharpness.testing.Problem`.

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import networks
    >>> find(networks(), lambda problem: True)
    a ReLU network of sizes 3-1-3 without biases, seed 0
    """
    widths = draw(st.lists(st.integers(1, _MOST_UNITS), min_size=1, max_size=_MOST_LAYERS))
    biases, seed = draw(st.booleans()), draw(st.integers(0, 2**16))
    sizes = (_INPUTS, *widths, _CLASSES)
    words = "with" if biases else "without"
    name = f"a ReLU network of sizes {'-'.join(map(str, sizes))} {words} biases, seed {seed}"
    task = ReluTask(name, sizes, loss=loss, biases=biases, num_examples=_MOST_EXAMPLES, seed=seed)
    return task.problem(framework)


@st.composite
def symmetries(draw: st.DrawFn, problem: Problem, largest: int = 12) -> RescaledGenerators:
    """Draw rescalings that leave a network alone: a few generators of :func:`invariant_sharpness.find_symmetries`, with powers of two.

    Parameters
    ----------
    problem
        The network.
    largest
        The largest magnitude of an exponent.

    Returns
    -------
    SearchStrategy
        A strategy of transformations with the method ``apply(parameters)``.

    Raises
    ------
    ArgumentError
        If the network has no rescaling symmetries that are found.

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import networks, symmetries
    >>> network = find(networks(), lambda problem: True)
    >>> find(symmetries(network), lambda transformation: True)
    layers.0.weight up, layers.1.weight down, by 2**1
    """
    found = problem.rescalings("row_column")
    if not found:
        msg = f"{problem} has no rescaling symmetries that are found, so none can be drawn"
        raise ArgumentError(msg)
    chosen: Any = st.dictionaries(
        st.integers(0, len(found) - 1), exponents(largest), min_size=1, max_size=_MOST_RESCALED
    )
    return RescaledGenerators(found, draw(chosen))


@st.composite
def rescaled_networks(
    draw: st.DrawFn, framework: str = "numpy", loss: str = "cross_entropy", largest: int = 12
) -> RescaledNetwork:
    """Draw a network of :func:`networks` with some of its hidden units rescaled, which is the same function bit by bit.

    Parameters
    ----------
    framework, loss
        As in :func:`networks`.
    largest
        The largest magnitude of an exponent.

    Returns
    -------
    SearchStrategy
        A strategy of networks with ``oracle`` before and ``moved`` after the rescaling.

    Examples
    --------
    >>> from hypothesis import find
    >>> from invariant_sharpness.testing.strategies import rescaled_networks
    >>> find(rescaled_networks(), lambda network: True)
    layer 0 unit 0 scaled by 2**1 in a ReLU network of sizes 3-1-3 without biases, seed 0
    """
    problem = draw(networks(framework, loss))
    groups = problem.oracle.groups
    layers = enumerate(chain_rescalings(groups))
    units = [(layer, unit) for layer, rescaling in layers for unit in range(unit_count(groups, rescaling))]
    chosen = st.dictionaries(st.sampled_from(units), exponents(largest), min_size=1, max_size=_MOST_RESCALED)
    return RescaledNetwork(problem, RescaledUnits(problem.oracle, draw(chosen)))
