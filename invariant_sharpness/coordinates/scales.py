r"""Scales :math:`s(\theta)`: one positive number per parameter, which transforms as the parameter does.

A scale is *equivariant* under a group of rescalings D if :math:`s(D\theta) = D s(\theta)`. In the coordinates :math:`\phi = \theta / s` of
:class:`invariant_sharpness.Scaled` every measure is then invariant under these rescalings, value by value. They are public as
``invariant_sharpness.scales``.

=========================== ================================== ================================================
scale s                     equivariant under                  what measures in these coordinates are
=========================== ================================== ================================================
1 (no ``Scaled``)           nothing                            trace, Keskar's and expected sharpness
:func:`matrix_norms`        layer rescaling                    layer-normalized landscapes; (13)
:func:`filter_norms`        row rescaling                      filter-normalized landscapes
:func:`magnitudes`          every diagonal rescaling           adaptive sharpness, the Fisher-Rao norm (25)
:func:`balanced`            row and column rescaling           the first probes; landscapes in balanced coordinates
:func:`optimal`             row and column rescaling           normalized sharpness (17); probes of least variance
=========================== ================================== ================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from invariant_sharpness.coordinates.scales_in_place import balanced_layers, magnitudes_in_place
from invariant_sharpness.parameters.matrices import (
    HostArray,
    LayerMatrix,
    root_mean_square,
    weights_with_biases,
)
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup
from invariant_sharpness.protocol.placement import on_accelerators
from invariant_sharpness.solvers.rows_columns import solve

__all__ = ["balanced", "filter_norms", "magnitudes", "matrix_norms", "optimal"]

_POLISH = 1e-26  # the error of a scale is the root of the gap of the value


def magnitudes(oracle: CurvatureOracle) -> ParameterVector:
    r"""Return the size of each parameter, :math:`s_i = |\theta_i|`; a zero takes the root mean square of its group.

    Parameters
    ----------
    oracle
        The oracle whose parameters are scaled.

    Returns
    -------
    ParameterVector
        A positive number for each parameter. Cost: no gradient.

    Notes
    -----
    Equivariant under every diagonal rescaling, as long as no parameter is zero. Source: Kwon, Kim, Park and Choi (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> magnitudes(quadratic(np.eye(2), [[3.0, -4.0]]))["weight"].tolist()
    [[3.0, 4.0]]
    """
    there = on_accelerators(oracle)
    if there is not None:
        return ParameterVector(there.xp, magnitudes_in_place(there))
    return oracle.from_numpy({k: _magnitude(v) for k, v in oracle.to_numpy(oracle.parameters).items()})


def matrix_norms(oracle: CurvatureOracle) -> ParameterVector:
    r"""Return the root mean square of each group, :math:`s = \lVert W \rVert_F / \sqrt{k}` of its k entries; 1 for a group of zeros.

    Parameters
    ----------
    oracle
        The oracle whose parameters are scaled.

    Returns
    -------
    ParameterVector
        A positive number for each parameter, the same within a group. Cost: no gradient.

    Notes
    -----
    Equivariant under one factor for each group.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> matrix_norms(quadratic(np.eye(2), [[1.0, 7.0]]))["weight"].tolist()  # the root of (1 + 49) / 2
    [[5.0, 5.0]]
    """
    arrays = oracle.to_numpy(oracle.parameters)
    return oracle.from_numpy({k: np.full(v.shape, root_mean_square(v)) for k, v in arrays.items()})


def filter_norms(oracle: CurvatureOracle) -> ParameterVector:
    r"""Return the root mean square of each row of a weight (of each filter), which is also the scale of its bias.

    Groups without rows have one scale, their own root mean square.

    Parameters
    ----------
    oracle
        The oracle whose parameters are scaled.

    Returns
    -------
    ParameterVector
        A positive number for each parameter, the same within a row. Cost: no gradient.

    Notes
    -----
    Equivariant under one factor for each row. It does not follow the columns, so it is not equivariant under the rescaling of hidden units.
    Source: the scale of Li, Xu, Taylor, Studer and Goldstein (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> filter_norms(quadratic(np.eye(4), [[1.0, 7.0], [2.0, 2.0]]))["weight"].tolist()
    [[5.0, 5.0], [2.0, 2.0]]
    """
    arrays = oracle.to_numpy(oracle.parameters)
    scale = {k: np.full(v.shape, root_mean_square(v)) for k, v in arrays.items()}
    for layer in weights_with_biases(oracle.groups):
        values = arrays[layer.weight.name]
        # Squares of the weight alone, summed over kernel positions and columns.
        weight_alone = {name: np.zeros_like(arrays[name]) for name in layer.names} | {layer.weight.name: values**2}
        squares = layer.matrices(weight_alone)
        entries_per_row = values.size / (squares.shape[0] * squares.shape[1])
        rows = np.sqrt(squares.sum(axis=2, keepdims=True) / entries_per_row)
        # Rows of zeros take the size of the whole weight.
        rows = np.where(rows > 0, rows, root_mean_square(values))
        scale |= layer.arrays(np.broadcast_to(rows, squares.shape))
    return oracle.from_numpy(scale)


def balanced(oracle: CurvatureOracle) -> ParameterVector:
    r"""Return row scale times column scale, :math:`s_{ij} = r_i c_j`, by the least-squares fit :math:`\ln |W_{ij}| \approx \ln r_i + \ln c_j`.

    It is a two-way mean of logarithms: in closed form and exactly equivariant, where a finite number of Sinkhorn sweeps is not. Exact zeros do
    not take part in the fit. Parameters on an accelerator are fitted there, but for layers with zeros.

    Parameters
    ----------
    oracle
        The oracle whose parameters are scaled.

    Returns
    -------
    ParameterVector
        A positive number for each parameter. Cost: no gradient.

    Notes
    -----
    Equivariant under row and column rescaling, so under (15)-(16) of Tsuzuku, Sato and Sugiyama (2019). Source: this library.

    Examples
    --------
    A matrix of rank one is its own scale.

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> balanced(quadratic(np.eye(4), [[1.0, 2.0], [-3.0, 6.0]]))["weight"].round(12).tolist()
    [[1.0, 2.0], [3.0, 6.0]]
    """
    there = on_accelerators(oracle)
    if there is None:
        arrays = oracle.to_numpy(oracle.parameters)
        scale = {group.name: _magnitude(arrays[group.name]) for group in oracle.groups}
        return oracle.from_numpy(scale | _fitted(weights_with_biases(oracle.groups), arrays))
    found, others = balanced_layers(oracle, there)
    of_others = ParameterVector(there.xp, {name: there[name] for layer in others for name in layer.names})
    on_host = _fitted(others, oracle.to_numpy(of_others))
    copied = {
        name: there.xp.asarray(np.array(on_host[name], order="C"), dtype=a.dtype, device=a.device)
        for name, a in of_others.arrays.items()
    }
    return ParameterVector(there.xp, magnitudes_in_place(there) | found | copied)


def _fitted(layers: Sequence[LayerMatrix], arrays: HostArrays) -> dict[str, HostArray]:
    scale: dict[str, HostArray] = {}
    for layer in layers:
        squares = layer.matrices({name: arrays[name] ** 2 for name in layer.names})
        scale |= layer.arrays(np.stack([_fit_product(np.sqrt(matrix)) for matrix in squares]))
    return scale


def optimal(oracle: CurvatureOracle, curvature: HostArrays) -> ParameterVector:
    r"""Return the minimizer :math:`s_{ij} = \sigma_i \sigma'_j` of (17) for a given diagonal ``curvature`` of the Hessian.

    .. math:: \min_{\sigma, \sigma'} \sum_{ij} \sigma_i^2 {\sigma'_j}^2 h_{ij} + \frac{W_{ij}^2}{\sigma_i^2 {\sigma'_j}^2}

    Among all scales it gives probes the least variance for (17). Where the minimum is not attained, as
    for dead units, and for groups without a curvature, it falls back on :func:`balanced`.

    Parameters
    ----------
    oracle
        The oracle whose parameters are scaled.
    curvature
        The diagonal of the Hessian on the host, for any of the groups; negative entries count as zero.

    Returns
    -------
    ParameterVector
        A positive number for each parameter. Cost: no gradient.

    Notes
    -----
    Equivariant under row and column rescaling. Source: (17) of Tsuzuku, Sato and Sugiyama (2019).

    Examples
    --------
    For a single weight the minimizer is :math:`\sigma\sigma' = (W^2 / h)^{1/4}`, here the fourth root of 4 / 64.

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> optimal(quadratic([[64.0]], [[2.0]]), {"weight": np.array([[64.0]])})["weight"].round(12).tolist()
    [[0.5]]
    """
    arrays = oracle.to_numpy(oracle.parameters)
    scale = oracle.to_numpy(balanced(oracle))
    for layer in _layers_with_curvature(oracle.groups, curvature):
        a = layer.matrices({name: np.clip(curvature[name], 0, None, dtype=np.float64) for name in layer.names})
        b = layer.matrices({name: arrays[name] ** 2 for name in layer.names})
        fallback = _scales_of_cells(layer, scale)
        best = np.stack([_minimizer(*cells) for cells in zip(a, b, fallback, strict=True)])
        scale |= layer.arrays(best)
    return oracle.from_numpy(scale)


def _layers_with_curvature(groups: tuple[ParameterGroup, ...], curvature: HostArrays) -> list[LayerMatrix]:
    return [
        LayerMatrix(layer.weight, layer.bias if layer.bias is not None and layer.bias.name in curvature else None)
        for layer in weights_with_biases(groups)
        if layer.weight.name in curvature
    ]


def _scales_of_cells(layer: LayerMatrix, scale: HostArrays) -> HostArray:
    """Return the scale of each cell, which all its kernel positions have; 1 in cells without entries."""
    positions = layer.matrices({name: np.ones_like(scale[name]) for name in layer.names})
    return layer.matrices(scale) / np.where(positions == 0, 1, positions) + (positions == 0)


def _minimizer(a: HostArray, b: HostArray, fallback: HostArray) -> HostArray:
    solution = solve(a, b, tolerance=_POLISH)
    sigma = np.exp((solution.rows[:, None] + solution.columns) / 2)
    return np.where(solution.within_components, sigma, fallback)


def _magnitude(values: HostArray) -> HostArray:
    return np.where(values == 0, root_mean_square(values), np.abs(values))


def _fit_product(sizes: HostArray) -> HostArray:
    """Fit a product of row and column factors to the nonzero entries, by least squares in their logarithms."""
    known = (sizes > 0).astype(float)
    logarithms = np.log(np.where(sizes > 0, sizes, 1.0))
    if known.shape[0] > known.shape[1]:
        return _fit_product(sizes.T).T
    # Normal equations with the columns eliminated: a Laplacian of the rows.
    row_counts, column_counts = np.maximum(known.sum(axis=1), 1), np.maximum(known.sum(axis=0), 1)
    laplacian = np.diag(known.sum(axis=1)) - (known / column_counts) @ known.T
    right = (logarithms - logarithms.sum(axis=0) / column_counts * known).sum(axis=1)
    # Row factors: plain means where no entry is missing.
    rows = np.linalg.lstsq(laplacian, right)[0] if (known == 0).any() else logarithms.sum(axis=1) / row_counts
    # Column factors, given those of the rows.
    columns = (logarithms - rows[:, None] * known).sum(axis=0) / column_counts
    empty = ~known.any(axis=0)  # such as a bias that is still zero: as large as the other columns are
    columns[empty] = columns.sum() / max(np.count_nonzero(~empty), 1)
    return np.exp(rows[:, None] + columns)
