"""Where a network is looked at: examples spread over its data, and random parameter points."""

from __future__ import annotations

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, JacobianOracle, SubsetOracle, capability, require

EXAMPLES = 8
"""The number of examples of which equations are made."""

_MOST_OUTPUTS = 2**22
_FIRST_POINT = 2**20
_LEAST_SIZE = 0.1


def spread_examples(oracle: CurvatureOracle, number: int) -> JacobianOracle:
    """Restrict an oracle to so many examples, spread evenly over its data, the first and the last among them.

    Data may be sorted, and a unit may be off on all that come first. The outputs of all the examples are held at once: where an example has
    very many, as in a language model, there are fewer examples, but eight. If there are 8, 15, 22 or 29, the eight are among them. An oracle
    that cannot be restricted is returned as it is.

    Raises
    ------
    MissingCapabilityError
        If the oracle does not show its outputs.
    """
    able = require(oracle, JacobianOracle, metric="find_symmetries")
    divisible = capability(oracle, SubsetOracle)
    if divisible is None or divisible.examples <= EXAMPLES:
        return able
    fitting = _MOST_OUTPUTS // max(able.outputs(oracle.parameters, 1).shape[1], 1)
    steps = max(min(fitting, number) - 1, 1) // (EXAMPLES - 1) or 1
    chosen = min(steps * (EXAMPLES - 1) + 1, divisible.examples)
    numbers = np.linspace(0, divisible.examples - 1, chosen).round().astype(int)
    return require(divisible.subset(np.unique(numbers).tolist()), JacobianOracle, metric="find_symmetries")


class RandomPoints:
    """Random parameter points, each parameter as large as it is in the model, but none much smaller than the weights are.

    At a single point there are accidental solutions: units that are always active, or dead. A symmetry must hold for all parameters, and what
    has hardly been trained, as biases or the gains of a residual branch, could not be told from rounding at its own size.

    Parameters
    ----------
    oracle
        The oracle of the network on a few examples.
    seed
        The seed of the random numbers.
    """

    def __init__(self, oracle: JacobianOracle, seed: int) -> None:
        self.oracle, self.seed = oracle, seed
        arrays = oracle.to_numpy(oracle.parameters)
        sizes = {name: float(np.sqrt(np.mean(a**2))) if a.size else 0.0 for name, a in arrays.items()}
        weights = [sizes[group.name] for group in oracle.groups if group.is_weight and sizes[group.name] > 0]
        usual = float(np.median(weights or [size for size in sizes.values() if size > 0] or [1.0]))
        self._bounds = {name: 3**0.5 * max(size, _LEAST_SIZE * usual) for name, size in sizes.items()}

    def __getitem__(self, index: int) -> ParameterVector:
        draws = prng.uniform(self.oracle, self.seed, _FIRST_POINT + index)
        return ParameterVector(draws.xp, {name: a * self._bounds[name] for name, a in draws.arrays.items()})
