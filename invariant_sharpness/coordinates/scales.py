r"""Scales :math:`s(\theta)`: one positive number per parameter, which transforms as the parameter does.

A scale is *equivariant* under a group of rescalings D if :math:`s(D\theta) = D s(\theta)`.

================== ===================================== =========================================
scale              equivariant under                     used for
================== ===================================== =========================================
``magnitudes``     every diagonal rescaling              adaptive measures, the exactness certificate
``matrix_norms``   layer rescaling                       layer-normalized measures
``filter_norms``   row rescaling                         filter-normalized landscapes
``balanced``       row and column rescaling              the first probes
``optimal``        row and column rescaling              all other probes: least variance
================== ===================================== =========================================
"""

from __future__ import annotations

import numpy as np

from invariant_sharpness.parameters.matrices import (
    HostArray,
    LayerMatrix,
    root_mean_square,
    weights_with_biases,
)
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup
from invariant_sharpness.solvers.rows_columns import solve

_POLISH = 1e-26  # the error of a scale is the root of the gap of the value


def magnitudes(oracle: CurvatureOracle) -> ParameterVector:
    """The size ``abs(theta)`` of each parameter; a zero takes the typical size of its group."""
    return oracle.from_numpy({k: _magnitude(v) for k, v in oracle.to_numpy(oracle.parameters).items()})


def matrix_norms(oracle: CurvatureOracle) -> ParameterVector:
    """Root mean square of each group: its Frobenius norm, up to the root of its size."""
    arrays = oracle.to_numpy(oracle.parameters)
    return oracle.from_numpy({k: np.full(v.shape, root_mean_square(v)) for k, v in arrays.items()})


def filter_norms(oracle: CurvatureOracle) -> ParameterVector:
    """Root mean square of each row of a weight (of each filter), which is also the scale of its bias.

    Groups without rows have one scale, their own root mean square.

    The scale of Li et al. (2018). It does not follow the columns, so it is not equivariant under the
    rescaling of hidden units.
    """
    arrays = oracle.to_numpy(oracle.parameters)
    scale = {k: np.full(v.shape, root_mean_square(v)) for k, v in arrays.items()}
    for family in weights_with_biases(oracle.groups):
        values = arrays[family.weight.name]
        weight_alone = {name: np.zeros_like(arrays[name]) for name in family.names} | {family.weight.name: values**2}
        squares = family.blocks(weight_alone)
        entries_per_row = values.size / (squares.shape[0] * squares.shape[1])
        rows = np.sqrt(squares.sum(axis=2, keepdims=True) / entries_per_row)
        rows = np.where(rows > 0, rows, root_mean_square(values))
        scale |= family.arrays(np.broadcast_to(rows, squares.shape))
    return oracle.from_numpy(scale)


def balanced(oracle: CurvatureOracle) -> ParameterVector:
    r"""Row scale times column scale, the least-squares fit :math:`\ln |W_{ij}| \approx \ln r_i + \ln c_j`.

    A two-way mean of logarithms: in closed form and exactly equivariant under row and column rescaling,
    where a finite number of Sinkhorn sweeps is not. Exact zeros do not take part in the fit.
    """
    arrays = oracle.to_numpy(oracle.parameters)
    scale = {group.name: _magnitude(arrays[group.name]) for group in oracle.groups}
    for family in weights_with_biases(oracle.groups):
        squares = family.blocks({name: arrays[name] ** 2 for name in family.names})
        scale |= family.arrays(np.stack([_fit_product(np.sqrt(block)) for block in squares]))
    return oracle.from_numpy(scale)


def optimal(oracle: CurvatureOracle, curvature: HostArrays) -> ParameterVector:
    r"""The minimizer :math:`\sigma_i \sigma'_j` of (17) for a given diagonal ``curvature`` of the Hessian.

    Among all scales it gives probes the least variance for (17). Where the minimum is not attained, as
    for dead units, and for groups without a curvature, it falls back on :func:`balanced`.
    """
    arrays = oracle.to_numpy(oracle.parameters)
    scale = oracle.to_numpy(balanced(oracle))
    for family in _known_families(oracle.groups, curvature):
        a = family.blocks({name: np.clip(curvature[name], 0, None) for name in family.names})
        b = family.blocks({name: arrays[name] ** 2 for name in family.names})
        fallback = _representatives(family, scale)
        best = np.stack([_minimizer(*cells) for cells in zip(a, b, fallback, strict=True)])
        scale |= family.arrays(best)
    return oracle.from_numpy(scale)


def _known_families(groups: tuple[ParameterGroup, ...], curvature: HostArrays) -> list[LayerMatrix]:
    return [
        LayerMatrix(f.weight, f.bias if f.bias is not None and f.bias.name in curvature else None)
        for f in weights_with_biases(groups)
        if f.weight.name in curvature
    ]


def _representatives(family: LayerMatrix, scale: HostArrays) -> HostArray:
    """The scale of each cell: all kernel positions of a cell have the same one."""
    positions = family.blocks({name: np.ones_like(scale[name]) for name in family.names})
    return family.blocks(scale) / np.where(positions == 0, 1, positions) + (positions == 0)


def _minimizer(a: HostArray, b: HostArray, fallback: HostArray) -> HostArray:
    solution = solve(a, b, tolerance=_POLISH)
    sigma = np.exp((solution.rows[:, None] + solution.columns) / 2)
    return np.where(solution.within_blocks, sigma, fallback)


def _magnitude(values: HostArray) -> HostArray:
    return np.where(values == 0, root_mean_square(values), np.abs(values))


def _fit_product(sizes: HostArray) -> HostArray:
    """Least-squares fit of a product of row and column factors to the nonzero entries, in logarithms."""
    known = (sizes > 0).astype(float)
    logarithms = np.log(np.where(sizes > 0, sizes, 1.0))
    if known.shape[0] > known.shape[1]:
        return _fit_product(sizes.T).T
    row_counts, column_counts = np.maximum(known.sum(axis=1), 1), np.maximum(known.sum(axis=0), 1)
    laplacian = np.diag(known.sum(axis=1)) - (known / column_counts) @ known.T
    right = (logarithms - logarithms.sum(axis=0) / column_counts * known).sum(axis=1)
    rows = np.linalg.lstsq(laplacian, right)[0] if (known == 0).any() else logarithms.sum(axis=1) / row_counts
    columns = (logarithms - rows[:, None] * known).sum(axis=0) / column_counts
    empty = ~known.any(axis=0)  # such as a bias that is still zero: as large as the other columns are
    columns[empty] = columns.sum() / max(np.count_nonzero(~empty), 1)
    return np.exp(rows[:, None] + columns)
