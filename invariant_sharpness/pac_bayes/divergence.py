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

_SWEEPS = 1000
_TOLERANCE = 1e-13
"""Of the variances; the divergence at its minimum is off by the square."""


def gaussian_divergence(weights: HostArray, posterior: HostArray, prior: HostArray) -> float:
    """(6) of independent entries, for the variances of the posterior and of the prior."""
    excess = (posterior - prior) / prior
    return float(0.5 * np.sum(excess - np.log1p(excess) + weights**2 / prior))


def divergence_at_equal_variances(weights: HostArray, posterior: HostArray) -> float:
    r"""(7), :math:`\sum_i W_i^2 / (2\sigma_i^2)`: the divergence at :math:`\sigma_P = \sigma_Q`, an upper bound of the least."""
    return float(0.5 * np.sum(weights**2 / posterior))


def best_common_variance(weights: HostArray, posterior: HostArray) -> float:
    r"""The one prior variance of least divergence, :math:`\sigma_P^2 = \sigma_Q^2 + \|W\|_F^2 / k`.

    Of a posterior with several variances, their mean takes the place of :math:`\sigma_Q^2`.
    """
    return float(np.mean(posterior + weights**2))


def least_divergence(squared_norm: float, variance: float, entries: int) -> float:
    r"""The divergence at the best common variance, :math:`\tfrac{k}{2} \ln\bigl(1 + \|W\|_F^2 / (k \sigma_Q^2)\bigr)`."""
    return 0.5 * entries * float(np.log1p(squared_norm / (entries * variance)))


def best_product_variances(moments: HostArray, counts: HostArray) -> HostArray:
    r"""Prior variances :math:`r_i c_j` of least divergence, for a stack of matrices.

    They minimize :math:`\sum_{ij} n_{ij} \ln(r_i c_j) + m_{ij} / (r_i c_j)`, where :math:`m_{ij}` is the sum of
    :math:`W^2 + \sigma_Q^2` over the :math:`n_{ij}` entries of a cell. The problem is convex in :math:`\ln r, \ln c`; rows and columns
    are solved for in turn, each in closed form. Every sweep lowers the divergence and transforms as the matrix does, so
    any number of them gives a valid prior.
    """
    rows, columns = np.ones_like(moments[..., :1]), np.ones_like(moments[..., :1, :])
    for _ in range(_SWEEPS):
        before = rows * columns
        rows = (moments / columns).sum(axis=-1, keepdims=True) / counts.sum(axis=-1, keepdims=True)
        columns = (moments / rows).sum(axis=-2, keepdims=True) / counts.sum(axis=-2, keepdims=True)
        if np.allclose(rows * columns, before, rtol=_TOLERANCE, atol=0):
            break
    return rows * columns
