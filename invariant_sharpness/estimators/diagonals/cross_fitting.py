r"""A value above a minimum that is known from samples only.

A function :math:`S(h) = \min_\sigma F(\sigma; h)` with F linear in h is concave: from unbiased samples of h its plug-in value is too small
in expectation. Solved on one half of the samples and evaluated on the other, :math:`F(\hat\sigma_1; \hat h_2)` is too large, since any
:math:`\sigma` is: :math:`E[F(\hat\sigma_1; \hat h_2)] = E[F(\hat\sigma_1; h)] \ge S(h)`.

To first order in the variance the plug-in value from all samples lacks half of what the other has too much, so
a third of the way from the first to the second there is no bias of first order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import fsum
from typing import NamedTuple

import numpy as np

from invariant_sharpness.estimators.diagonals.group_diagonals import GroupDiagonal, HessianDiagonal, HostArray
from invariant_sharpness.protocol import HostArrays


class Tangent(NamedTuple):
    r"""The linear function :math:`F(\sigma; h) = c + \sum_i s_i h_i` at a fixed :math:`\sigma`."""

    constant: float
    slopes: HostArrays

    def at(self, curvature: HostArrays) -> float:
        """Its value."""
        return self.constant + fsum(float(np.sum(s * curvature[name])) for name, s in self.slopes.items())


def cross_fitted(tangent: Callable[[HostArrays], Tangent], diagonal: HessianDiagonal, names: frozenset[str]) -> float:
    """The mean of both halves' values, each at the other half's minimizer.

    Parameters
    ----------
    tangent
        From a diagonal to the tangent at its minimizer.
    diagonal
        With parts, for those groups that were sampled.
    names
        The groups that count.

    Raises
    ------
    ValueError
        If the parts of a group are no estimates of their own; names the group.
    """
    _require_independent_parts(diagonal, names)
    first = {name: _mean_of_half(diagonal[name], slice(None, None, 2)) for name in names}
    second = {name: _mean_of_half(diagonal[name], slice(1, None, 2)) for name in names}
    return (tangent(first).at(second) + tangent(second).at(first)) / 2


def _require_independent_parts(diagonal: HessianDiagonal, names: frozenset[str]) -> None:
    dependent = [name for name in sorted(names) if diagonal[name].method == "XDiag"]
    if dependent:
        msg = (
            f"the diagonal of {', '.join(dependent)} is by XDiag, whose parts all come from the same vectors: half of them are no "
            f"estimate of their own; take a diagonal from hessian_diagonal, whose parts are independent"
        )
        raise ValueError(msg)


def _mean_of_half(group: GroupDiagonal, half: slice) -> HostArray:
    return group.values if group.parts is None else np.asarray(group.parts[half].mean(axis=0))
