"""Hutchinson's estimators of the trace and of the Frobenius norm."""

from __future__ import annotations

from collections.abc import Iterator

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


def squared_norm_samples(oracle: CurvatureOracle, probes: int, seed: int) -> Samples:
    r"""Draws of :math:`\|H u\|^2` for random signs u; their mean estimates :math:`\|H\|_F^2` without bias."""
    directions = (random.signs(oracle, seed, index) for index in range(probes))
    label = "probing the Frobenius norm"
    return numbers_of_products(
        oracle, directions, probes, label, lambda _, product: [product.norm() ** 2], seed
    ).ravel()


def column_squared_norms(oracle: CurvatureOracle) -> Samples:
    """The squared norm of every column of the Hessian. Cost: as many products as parameters."""
    size = sum(group.size for group in oracle.groups)
    label = "columns of the Hessian"
    return numbers_of_products(
        oracle, _unit_vectors(oracle), size, label, lambda _, column: [column.norm() ** 2]
    ).ravel()


def _unit_vectors(oracle: CurvatureOracle) -> Iterator[ParameterVector]:
    for group in oracle.groups:
        for index in np.ndindex(*group.shape):
            arrays = {other.name: np.zeros(other.shape) for other in oracle.groups}
            arrays[group.name][index] = 1.0
            yield oracle.from_numpy(arrays)
