r"""Kullback-Leibler divergence of a Gaussian posterior :math:`N(W, \sigma_Q^2)` from a Gaussian prior :math:`N(0, \sigma_P^2)`.

Equations (6) and (7) of Tsuzuku, Sato and Sugiyama (2019), with the number of entries that (6) leaves out:

.. math:: \mathrm{KL}[Q \| P] = \sum_i \ln\frac{\sigma_{P,i}}{\sigma_{Q,i}}
    + \frac{W_i^2 + \sigma_{Q,i}^2}{2 \sigma_{P,i}^2} - \frac12 .

The sum is over all k entries of a matrix, also where they share their variances. That the divergence is least at
:math:`\sigma_P = \sigma_Q`, as the paper says, is an erratum: it is least at :math:`\sigma_P^2 = \sigma_Q^2 + \|W\|_F^2 / k`.
"""

from __future__ import annotations

import numpy as np

from invariant_sharpness.parameters.matrices import HostArray

_MAX_SWEEPS = 1000
_TOLERANCE = 1e-13
"""The relative tolerance of the variances; the error of the divergence at its minimum is the square."""


def gaussian_divergence(weights: HostArray, posterior: HostArray, prior: HostArray) -> float:
    r"""Compute (6) of independent entries, for the variances of the posterior and of the prior.

    Parameters
    ----------
    weights
        The weights, of any shape.
    posterior
        The variances of the posterior, of the shape of the weights.
    prior
        The variances of the prior, of the shape of the weights.

    Returns
    -------
    float
        The divergence in nats.

    Examples
    --------
    At equal variances it is :math:`W^2 / (2 \sigma^2)`.

    >>> import numpy as np
    >>> gaussian_divergence(np.array([3.0]), np.array([2.0]), np.array([2.0]))
    2.25
    """
    excess = (posterior - prior) / prior
    return float(0.5 * np.sum(excess - np.log1p(excess) + weights**2 / prior))


def divergence_at_equal_variances(weights: HostArray, posterior: HostArray) -> float:
    r"""Compute (7), :math:`\sum_i W_i^2 / (2\sigma_i^2)`: the divergence at :math:`\sigma_P = \sigma_Q`, an upper bound of the least.

    Parameters
    ----------
    weights
        The weights, of any shape.
    posterior
        The variances of the posterior, of the shape of the weights.

    Returns
    -------
    float
        The divergence in nats.

    Examples
    --------
    >>> import numpy as np
    >>> divergence_at_equal_variances(np.array([3.0, 4.0]), np.array([2.0, 2.0]))
    6.25
    """
    return float(0.5 * np.sum(weights**2 / posterior))


def best_common_variance(weights: HostArray, posterior: HostArray) -> float:
    r"""Return the one prior variance of least divergence, :math:`\sigma_P^2 = \sigma_Q^2 + \|W\|_F^2 / k`.

    Of a posterior with several variances, their mean takes the place of :math:`\sigma_Q^2`.

    Parameters
    ----------
    weights
        The weights, of any shape.
    posterior
        The variances of the posterior, of the shape of the weights.

    Returns
    -------
    float
        The variance.

    Examples
    --------
    >>> import numpy as np
    >>> best_common_variance(np.array([3.0, 4.0]), np.array([1.0, 1.0]))  # 1 + 25 / 2
    13.5
    """
    return float(np.mean(posterior + weights**2))


def least_divergence(squared_norm: float, variance: float, entries: int) -> float:
    r"""Compute the divergence at the best common variance, :math:`\tfrac{k}{2} \ln\bigl(1 + \|W\|_F^2 / (k \sigma_Q^2)\bigr)`.

    Parameters
    ----------
    squared_norm
        The squared norm of the weights.
    variance
        The variance of the posterior.
    entries
        The number k of weights.

    Returns
    -------
    float
        The divergence in nats.

    Examples
    --------
    >>> round(least_divergence(2.0, 1.0, 2), 12)  # the logarithm of 2
    0.69314718056
    """
    return 0.5 * entries * float(np.log1p(squared_norm / (entries * variance)))


def best_product_variances(moments: HostArray, counts: HostArray) -> HostArray:
    r"""Find the prior variances :math:`r_i c_j` of least divergence, for a stack of matrices.

    They minimize :math:`\sum_{ij} n_{ij} \ln(r_i c_j) + m_{ij} / (r_i c_j)`, where :math:`m_{ij}` is the sum of
    :math:`W^2 + \sigma_Q^2` over the :math:`n_{ij}` entries of a cell. The problem is convex in :math:`\ln r, \ln c`; rows and columns
    are solved for in turn, each in closed form. Every sweep lowers the divergence and transforms as the matrix does, so
    any number of them gives a valid prior.

    Parameters
    ----------
    moments
        The sums m, of shape (matrices, rows, columns).
    counts
        The numbers n of entries, of the same shape.

    Returns
    -------
    ndarray
        The variances of the cells.

    Examples
    --------
    >>> import numpy as np
    >>> best_product_variances(np.array([[[2.0, 4.0], [3.0, 6.0]]]), np.ones((1, 2, 2))).round(12).tolist()
    [[[2.0, 4.0], [3.0, 6.0]]]
    """
    rows, columns = np.ones_like(moments[..., :1]), np.ones_like(moments[..., :1, :])
    for _ in range(_MAX_SWEEPS):
        # Best rows, then best columns.
        before = rows * columns
        rows = (moments / columns).sum(axis=-1, keepdims=True) / counts.sum(axis=-1, keepdims=True)
        columns = (moments / rows).sum(axis=-2, keepdims=True) / counts.sum(axis=-2, keepdims=True)
        if np.allclose(rows * columns, before, rtol=_TOLERANCE, atol=0):
            break
    return rows * columns
