"""The diagonal from sampled outputs: never negative, made of its draws, and right on average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonOracle,
    HostArrays,
    SampledGaussNewtonOracle,
    require,
    supports,
)
from invariant_sharpness.testing.entries import chosen_entries, unit_vector
from invariant_sharpness.testing.points import nearby_point, precision
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.tolerances import of_rounding

_DRAWS = 64
_STANDARD_ERRORS = 8.0
"""A mean of 64 draws with heavy tails is that far off once in a very long while."""


def check_sampled_outputs(oracle: CurvatureOracle, seed: int) -> Figures:
    r"""No draw is negative, and their mean is the diagonal of the Gauss-Newton product, within eight standard errors.

    The largest and a random entry of up to six groups. Cost: 64 draws and twelve products.
    """
    able = _able(oracle)
    names, point = frozenset(group.name for group in oracle.groups), nearby_point(oracle, seed)
    draws = [
        oracle.to_numpy(able.sampled_gauss_newton_diagonal(point, names, range(k, k + 1), seed)) for k in range(_DRAWS)
    ]
    for name in sorted(names):
        least = min(float(np.min(draw[name], initial=0.0)) for draw in draws)
        if least < 0:
            msg = f"a draw of sampled_gauss_newton_diagonal is {least:.3g} in {name!r}: square each example's backward pass"
            raise CheckFailedError(msg)
    _check_restriction(able, seed)
    return {"standard_errors_off": _distance(able, point, draws, seed)} if supports(oracle, GaussNewtonOracle) else {}


def _able(oracle: CurvatureOracle) -> SampledGaussNewtonOracle:
    if not supports(oracle, SampledGaussNewtonOracle):
        msg = "the oracle does not sample outputs; networks with many of them will be probed"
        raise CheckSkippedError(msg)
    able = require(oracle, SampledGaussNewtonOracle, metric="check_sampled_outputs")
    if not able.samples_outputs:
        msg = "the loss is not known to be convex in the outputs, so they cannot be sampled"
        raise CheckSkippedError(msg)
    return able


def _check_restriction(able: SampledGaussNewtonOracle, seed: int) -> None:
    """Other groups than those that were asked for are zero."""
    first, *others = [group.name for group in able.groups]
    host = able.to_numpy(able.sampled_gauss_newton_diagonal(able.parameters, frozenset({first}), range(1), seed))
    leaked = [name for name in others if np.any(host[name] != 0)]
    if leaked:
        msg = f"sampled_gauss_newton_diagonal is not zero in {leaked[0]!r}, which was not among the names: return zeros there"
        raise CheckFailedError(msg)


def _distance(able: CurvatureOracle, point: ParameterVector, draws: Sequence[HostArrays], seed: int) -> float:
    """The largest distance of a mean from the diagonal, in standard errors."""
    multiplying = require(able, GaussNewtonOracle, metric="check_sampled_outputs")
    sizes = able.to_numpy(magnitudes(able))
    means = {name: np.mean([draw[name] for draw in draws], axis=0) for name in draws[0]}
    relevant = {name: values * sizes[name] ** 2 for name, values in means.items()}
    whole = max(float(np.max(values, initial=0.0)) for values in relevant.values())
    worst = 0.0
    for name, index in chosen_entries(relevant, relevant, seed):
        product = multiplying.gauss_newton_vector_product(point, unit_vector(able, (name, index)))
        known, values = float(able.to_numpy(product)[name][index]), np.array([draw[name][index] for draw in draws])
        rounding = of_rounding(precision(able)) * abs(known) + 1e3 * precision(able) * whole / sizes[name][index] ** 2
        doubt = float(values.std(ddof=1)) / _DRAWS**0.5 + rounding
        distance = abs(float(values.mean()) - known) / doubt if doubt > 0 else 0.0
        worst = max(worst, distance)
        if distance > _STANDARD_ERRORS:
            msg = (
                f"the mean of {_DRAWS} draws of sampled_gauss_newton_diagonal is {values.mean():.4g} in {name!r} at {index}, "
                f"{distance:.0f} standard errors from {known:.4g}, the diagonal of gauss_newton_vector_product. Draw signs for each "
                f"output of each example, and take the weights of the loss into account"
            )
            raise CheckFailedError(msg, {"standard_errors_off": distance})
    return worst
