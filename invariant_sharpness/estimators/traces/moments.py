"""Hutchinson's estimators of the traces of diagonal blocks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.estimators.kept_products import numbers_of_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

Samples = npt.NDArray[np.float64]


def trace_samples(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, Samples]:
    r"""Draws of :math:`u_g \cdot (H u)_g` for each named group, with ``u`` random signs on the named groups.

    Unbiased for the trace of each diagonal block; the sum over the groups is :math:`u^T H u`.
    Cost: ``probes`` Hessian-vector products, in blocks within the memory limit.
    """
    ordered = sorted(names)

    def shares(direction: ParameterVector, product: ParameterVector) -> list[float]:
        return [float(oracle.xp.sum(direction[name] * product[name])) for name in ordered]

    directions = (random.signs(oracle, seed, index).only(names) for index in range(probes))
    rows = numbers_of_products(oracle, directions, probes, "probing traces of groups", shares, seed, *ordered)
    return dict(zip(ordered, rows.T, strict=True))
