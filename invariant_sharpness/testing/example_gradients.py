"""Second moments of the examples' gradients: the two methods agree with each other and with the gradient."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ExampleGradientOracle, require, supports
from invariant_sharpness.testing.entries import chosen_entries, unit_vector
from invariant_sharpness.testing.points import nearby_point, precision, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding, relative_error

_DIRECTIONS = 3


def check_second_moments(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""``directional_second_moment`` of a unit vector is an entry of ``gradient_second_moment``, and of any u at least :math:`(g \cdot u)^2`.

    The largest and a random entry of up to six groups, three random directions and the gradient. Cost: about 30 gradients.
    """
    if not supports(oracle, ExampleGradientOracle):
        msg = "the oracle cannot tell the examples apart; fisher_rao_norm is not available"
        raise CheckSkippedError(msg)
    able = require(oracle, ExampleGradientOracle, metric="check_second_moments")
    point = nearby_point(oracle, seed)
    return {"relative_error": _entry_error(able, point, seed), "least_ratio_to_mean": _least_ratio(able, point, seed)}


def _entry_error(able: ExampleGradientOracle, point: ParameterVector, seed: int) -> float:
    moments = able.to_numpy(able.gradient_second_moment(point))
    sizes = able.to_numpy(magnitudes(able))
    relevant = {name: values * sizes[name] ** 2 for name, values in moments.items()}
    whole = max(float(np.max(np.abs(values), initial=0.0)) for values in relevant.values())
    worst = 0.0
    for name, index in chosen_entries(relevant, relevant, seed):
        along, entry = able.directional_second_moment(point, unit_vector(able, (name, index))), moments[name][index]
        local = whole / sizes[name][index] ** 2
        error = relative_error(abs(along - entry), max(abs(along), abs(entry)), local, precision(able))
        worst = max(worst, error)
        if error > of_rounding(precision(able)):
            msg = (
                f"gradient_second_moment is {entry:.6g} in {name!r} at {index}, but directional_second_moment along that "
                f"parameter is {along:.6g}. Both are means of squares over the examples, with the weights of the loss"
            )
            raise CheckFailedError(msg, {"relative_error": error})
    return worst


def _least_ratio(able: ExampleGradientOracle, point: ParameterVector, seed: int) -> float:
    """The least of ``E[(u . g_n)^2] / (u . g)^2``, which is at least one."""
    gradient = able.gradient(point)
    scale = magnitudes(able)
    directions = [scale * scale * gradient, *(scaled_signs(able, seed, k) for k in range(_DIRECTIONS))]
    ratios = [able.directional_second_moment(point, u) / mean**2 for u in directions if (mean := gradient.dot(u)) != 0]
    least = min(ratios, default=np.inf)
    if least < 1 - of_rounding(precision(able)):
        msg = (
            f"directional_second_moment is {least:.3g} times the square of the mean slope, but a mean of squares is at least "
            f"the square of the mean. Average over examples, not over batches, with the weights of the loss"
        )
        raise CheckFailedError(msg, {"least_ratio_to_mean": least})
    return least
