"""Hutchinson's estimators of the trace and of the Frobenius norm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector

Samples = npt.NDArray[np.float64]


def trace_samples(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, Samples]:
    r"""Draws of :math:`u_g \cdot (H u)_g` for each named group, with ``u`` random signs on the named groups.

    Unbiased for the trace of each diagonal block; the sum over the groups is :math:`u^T H u`.
    Cost: ``probes`` Hessian-vector products, in blocks within the memory limit.
    """
    samples: dict[str, list[float]] = {name: [] for name in names}
    directions = _directions(oracle, names, probes, seed)
    for direction, product in hessian_vector_products(oracle, directions, probes, "probing the trace"):
        for name in names:
            samples[name].append(float(oracle.xp.sum(direction[name] * product[name])))
    return {name: np.array(draws) for name, draws in samples.items()}


def squared_norm_samples(oracle: CurvatureOracle, probes: int, seed: int) -> Samples:
    r"""Draws of :math:`\|H u\|^2` for random signs u; their mean estimates :math:`\|H\|_F^2` without bias."""
    names = frozenset(group.name for group in oracle.groups)
    directions = _directions(oracle, names, probes, seed)
    pairs = hessian_vector_products(oracle, directions, probes, "probing the Frobenius norm")
    return np.array([product.norm() ** 2 for _, product in pairs])


def column_squared_norms(oracle: CurvatureOracle) -> Samples:
    """The squared norm of every column of the Hessian. Cost: as many products as parameters."""
    size = sum(group.size for group in oracle.groups)
    pairs = hessian_vector_products(oracle, _unit_vectors(oracle), size, "columns of the Hessian")
    return np.array([column.norm() ** 2 for _, column in pairs])


def _directions(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> Iterator[ParameterVector]:
    return (random.signs(oracle, seed, index).only(names) for index in range(probes))


def _unit_vectors(oracle: CurvatureOracle) -> Iterator[ParameterVector]:
    for group in oracle.groups:
        for index in np.ndindex(*group.shape):
            arrays = {other.name: np.zeros(other.shape) for other in oracle.groups}
            arrays[group.name][index] = 1.0
            yield oracle.from_numpy(arrays)
