r"""The neighbourhood :math:`|u_i| \le N_i = \gamma |\theta_i| + \epsilon` of Wang, Keskar, Xiong and Socher (2018)."""

from __future__ import annotations

from invariant_sharpness import probes as random
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


def half_widths(oracle: CurvatureOracle, gamma: float, epsilon: float) -> ParameterVector:
    r""":math:`N_i` for every parameter.

    Raises
    ------
    ValueError
        If ``gamma`` or ``epsilon`` is negative, or both are zero.
    """
    if not (gamma >= 0 and epsilon >= 0 and gamma + epsilon > 0):
        msg = f"gamma={gamma} and epsilon={epsilon}, but neither may be negative, and a neighbourhood has a width"
        raise ValueError(msg)
    return abs(oracle.parameters).map(lambda sizes: gamma * sizes + epsilon)


def corner(oracle: CurvatureOracle, widths: ParameterVector, seed: int, index: int) -> ParameterVector:
    """Corner number ``index`` of the neighbourhood, where every parameter is as far away as it may be."""
    return widths * random.signs(oracle, seed, index)
