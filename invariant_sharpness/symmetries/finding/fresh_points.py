"""Random parameters at which the equations of a symmetry are gathered."""

from __future__ import annotations

import numpy as np

from invariant_sharpness import probes
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

_FIRST_POINT = 2**20
_LEAST = 0.1


class FreshPoints:
    """Random parameters, each group as large as it is in the model, but none much smaller than its weights are.

    At a single point there are accidental solutions: units that are always active, or dead. A symmetry must hold for all parameters, and what
    has hardly been trained, as biases or the gains of a residual branch, could not be told from rounding at its own size.

    Parameters
    ----------
    oracle
        Of the network.
    seed
        Of the random numbers.
    """

    def __init__(self, oracle: CurvatureOracle, seed: int) -> None:
        self.oracle, self.seed = oracle, seed
        arrays = oracle.to_numpy(oracle.parameters)
        sizes = {name: float(np.sqrt(np.mean(a**2))) if a.size else 0.0 for name, a in arrays.items()}
        weights = [sizes[group.name] for group in oracle.groups if group.is_weight and sizes[group.name] > 0]
        usual = float(np.median(weights or [size for size in sizes.values() if size > 0] or [1.0]))
        self._bounds = {name: 3**0.5 * max(size, _LEAST * usual) for name, size in sizes.items()}

    def __getitem__(self, index: int) -> ParameterVector:
        draws = probes.uniform(self.oracle, self.seed, _FIRST_POINT + index)
        return ParameterVector(draws.xp, {name: a * self._bounds[name] for name, a in draws.arrays.items()})
