r"""Which weights of a posterior share a variance, and what the choice costs.

The prior of Tsuzuku, Sato and Sugiyama (2019) may know some scales after training, because a hyperprior is uniform on
the numbers that a float can hold. Each scale then costs the logarithm of how many these are,
:math:`32 \ln 2 \approx 22.2` nats in single precision: the constant of (7). A parameter that is not perturbed,
such as a bias, is paid for in the same way (footnote 5, "naive parameter counting").

Each class is one choice, :data:`SCALES` has them by name. The variances of its posterior transform as the squares of the parameters do, under layer rescaling or,
all but the first, under row and column rescaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from types import MappingProxyType
from typing import Protocol

import numpy as np

from invariant_sharpness.coordinates.scales import magnitudes, optimal
from invariant_sharpness.pac_bayes.divergence import best_common_variance, best_product_variances
from invariant_sharpness.parameters.matrices import HostArray, channel_matrices, from_channel_matrices, root_mean_square
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup

NATS_PER_FLOAT = 32 * log(2)
"""What one number in single precision costs, in nats: 22.2."""


class Scales(Protocol):
    """One choice of which weights share a variance."""

    def free(self, group: ParameterGroup) -> int:
        """Count the scales of a weight that can be chosen independently."""
        ...

    def posterior(self, oracle: CurvatureOracle, curvature: HostArrays, lam: float) -> dict[str, HostArray]:
        r"""Return the variances v of the weights that minimize :math:`\sum_i a_i v_i + W_i^2 / (2\lambda v_i)` for curvatures a.

        Where there is no minimum, because there is no curvature or no weight, v is the squared size of the weights.
        """
        ...

    def prior(self, group: ParameterGroup, weights: HostArray, posterior: HostArray) -> HostArray:
        """Return the variances of the prior that has the least divergence."""
        ...


class MatrixScales:
    r"""One variance per weight, :math:`\sigma_l^2 = \sqrt{\|W_l\|^2 / (2\lambda \sum_i a_i)}` (11)."""

    def free(self, group: ParameterGroup) -> int:
        return 1

    def posterior(self, oracle: CurvatureOracle, curvature: HostArrays, lam: float) -> dict[str, HostArray]:
        weights = oracle.to_numpy(oracle.parameters)
        return {
            g.name: np.full(g.shape, _best_variance(weights[g.name], float(curvature[g.name].sum()), lam))
            for g in oracle.groups
            if g.is_weight
        }

    def prior(self, group: ParameterGroup, weights: HostArray, posterior: HostArray) -> HostArray:
        return np.full(weights.shape, best_common_variance(weights, posterior))


class RowColumnScales:
    r"""Variances :math:`(\sigma_i \sigma'_j)^2`, one scale per output unit and one per input unit: the minimizer of (17)."""

    def free(self, group: ParameterGroup) -> int:
        channel_groups, rows, columns = channel_matrices(group, np.zeros(group.shape)).shape
        return channel_groups * (rows + columns - 1)

    def posterior(self, oracle: CurvatureOracle, curvature: HostArrays, lam: float) -> dict[str, HostArray]:
        names = [group.name for group in oracle.groups if group.is_weight]
        deviations = oracle.to_numpy(optimal(oracle, {name: 2 * lam * curvature[name] for name in names}))
        return {name: deviations[name] ** 2 for name in names}

    def prior(self, group: ParameterGroup, weights: HostArray, posterior: HostArray) -> HostArray:
        moments, counts = channel_matrices(group, weights**2 + posterior), channel_matrices(group, np.ones(group.shape))
        return from_channel_matrices(group, best_product_variances(moments, counts))


class ParameterScales:
    r"""One variance per weight entry, :math:`\sigma_i^2 = |W_i| / \sqrt{2\lambda a_i}`."""

    def free(self, group: ParameterGroup) -> int:
        return group.size

    def posterior(self, oracle: CurvatureOracle, curvature: HostArrays, lam: float) -> dict[str, HostArray]:
        sizes = oracle.to_numpy(magnitudes(oracle))
        return {g.name: _best_variances(sizes[g.name], curvature[g.name], lam) for g in oracle.groups if g.is_weight}

    def prior(self, group: ParameterGroup, weights: HostArray, posterior: HostArray) -> HostArray:
        return posterior + weights**2


SCALES: Mapping[str, Scales] = MappingProxyType(
    {"matrix": MatrixScales(), "row_column": RowColumnScales(), "parameter": ParameterScales()}
)
"""The choices by name."""


def number_of_floats(groups: Sequence[ParameterGroup], scales: Scales) -> int:
    """Count the floats that the prior learns after training: the scales of the weights, and every other parameter itself.

    Parameters
    ----------
    groups
        The parameter groups of the network.
    scales
        Which weights share a variance, one of :data:`SCALES`.

    Returns
    -------
    int
        The number of floats; each costs :data:`NATS_PER_FLOAT`.

    Examples
    --------
    A 3 x 4 matrix has seven row and column scales, one of which is not independent of the others; a bias counts in full.

    >>> from invariant_sharpness import ParameterGroup
    >>> weight = ParameterGroup("weight", (3, 4), "matrix", output_axes=(0,), input_axes=(1,))
    >>> number_of_floats([weight, ParameterGroup("bias", (3,), "bias")], SCALES["row_column"])
    9
    """
    return sum(scales.free(group) if group.is_weight else group.size for group in groups)


def _best_variance(weights: HostArray, trace: float, lam: float) -> float:
    squared_norm = float(np.sum(weights**2))
    if trace <= 0 or squared_norm == 0:
        return root_mean_square(weights) ** 2
    return float(np.sqrt(squared_norm / (2 * lam * trace)))


def _best_variances(sizes: HostArray, curvature: HostArray, lam: float) -> HostArray:
    roots = np.sqrt(2 * lam * np.clip(curvature, 0, None))
    return np.divide(sizes, roots, out=sizes**2, where=roots > 0)
