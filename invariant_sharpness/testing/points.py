"""Where derivatives are checked, along which directions, and with which precision."""

from __future__ import annotations

from invariant_sharpness import prng
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon

_DISTANCE = 2.0**-2
_POINT = 1000
"""Number of the vector that leads to the point, far from those of the directions."""


def nearby_point(oracle: CurvatureOracle, seed: int) -> ParameterVector:
    """A generic point: each parameter is moved by up to a quarter of its size, a zero by that of its group.

    The parameters themselves are not generic. A trained model has hardly a gradient left to check, and a bias
    that starts at zero may put a ReLU exactly on its kink, where a loss has no derivative. An oracle that always
    answers for its own parameters, whatever it is asked, is found out here.
    """
    return oracle.parameters + _DISTANCE * magnitudes(oracle) * prng.uniform(oracle, seed, _POINT)


def scaled_signs(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """A direction in which every parameter changes by its own size, up or down."""
    return magnitudes(oracle) * prng.signs(oracle, seed, index)


def precision(oracle: CurvatureOracle) -> float:
    """Unit of rounding of the model, or of the least precise group."""
    return machine_epsilon(oracle)


def group_norms(oracle: CurvatureOracle, vector: ParameterVector) -> dict[str, float]:
    """Euclidean norm of each group."""
    return {name: float(oracle.xp.sum(array * array)) ** 0.5 for name, array in vector.arrays.items()}
