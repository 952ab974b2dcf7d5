"""Hutchinson's estimators of the trace and of the Frobenius norm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from invariant_sharpness import probes as random
from invariant_sharpness.checkpoints import keep, loop_name, resumed
from invariant_sharpness.estimators.products import hessian_vector_products
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

    rows = _samples(oracle, shares, "probing the trace", frozenset(names), probes, seed)
    return dict(zip(ordered, rows.T, strict=True))


def squared_norm_samples(oracle: CurvatureOracle, probes: int, seed: int) -> Samples:
    r"""Draws of :math:`\|H u\|^2` for random signs u; their mean estimates :math:`\|H\|_F^2` without bias."""
    names = frozenset(group.name for group in oracle.groups)
    return _samples(
        oracle, lambda _, product: [product.norm() ** 2], "probing the Frobenius norm", names, probes, seed
    )[:, 0]


def column_squared_norms(oracle: CurvatureOracle) -> Samples:
    """The squared norm of every column of the Hessian. Cost: as many products as parameters."""
    size = sum(group.size for group in oracle.groups)
    pairs = hessian_vector_products(oracle, _unit_vectors(oracle), size, "columns of the Hessian")
    return np.array([column.norm() ** 2 for _, column in pairs])


def _samples(
    oracle: CurvatureOracle,
    sample: Callable[[ParameterVector, ParameterVector], list[float]],
    label: str,
    names: frozenset[str],
    probes: int,
    seed: int,
) -> Samples:
    """One row of numbers per probe of the named groups; goes on from a checkpoint."""
    loop = loop_name(label, oracle, oracle.parameters, seed, *sorted(names))
    state = resumed(loop)
    rows = [] if state is None else [list(row) for row in state["rows"][:probes]]
    directions = (random.signs(oracle, seed, index).only(names) for index in range(len(rows), probes))
    for direction, product in hessian_vector_products(oracle, directions, probes - len(rows), label):
        rows.append(sample(direction, product))
        keep(loop, lambda: {"rows": np.array(rows)})
    return np.array(rows).reshape(probes, -1)


def _unit_vectors(oracle: CurvatureOracle) -> Iterator[ParameterVector]:
    for group in oracle.groups:
        for index in np.ndindex(*group.shape):
            arrays = {other.name: np.zeros(other.shape) for other in oracle.groups}
            arrays[group.name][index] = 1.0
            yield oracle.from_numpy(arrays)
