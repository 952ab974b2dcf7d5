r"""What the affine test has not seen on its few examples, looked for once the Gauss-Newton diagonal of all data is known.

*Entries that no tested example reaches.* The diagonal of G says for free which entries count on all data, :math:`g_i \ne 0`; the test has seen
those in which its slope is not zero. The rest has a part in :math:`\sum_i s_i^2 g_i`, with :math:`s = |\theta|`, which no rescaling changes. If it is
more than rounding, the test is repeated, the cheaper way first:

1. at *mirrored points*, the parameters with random signs, on as few examples. A unit that is off at :math:`\theta` is on there as often as not, and a
   router chooses other experts, so that the same nonlinearities act. An entry that is reached there, in a group without curvature
   there, counts as seen. Curvature there is no verdict, since the network is another one.
2. at the model's own point, on *all* examples, for those groups alone that are still open. Cost: a gradient, and one more backward pass
   for each of these groups.

*Curvature below the threshold.* The threshold bounds second derivatives of the outputs beside first ones, :math:`\delta`, and not the error of h: this is
up to :math:`\delta \sum_i s_i \sqrt{E_n[(\partial_i \ell_n)^2]}` in :math:`\sum_i s_i^2 h_i`, which is much where residuals are large beside the output Hessian, as for a
confident classifier that is wrong. A group with :math:`\delta > 0` stays exact only if that is rounding beside :math:`\sum_i s_i^2 g_i`. ReLU networks have
:math:`\delta = 0` exactly, and pay nothing. Cost for the others: one pass of squared gradients.

*What stays unseen:* an example of a kind that is not among the tested ones, on which the outputs are curved in entries that the tested
examples reach and are straight in; in a group whose curvature shows neither there nor at mirrored points nothing else of the data is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.estimators.affine_test import (
    AffineTest,
    Seen,
    differentiated_outputs,
    exact_groups,
    largest_defects,
    relative_curvatures,
)
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    BlockCurvatureOracle,
    ExampleGradientOracle,
    GaussNewtonDiagonalOracle,
    HostArrays,
    capability,
)

_MIRRORED_POINTS = 3
"""So many points with other signs are tried."""


def confirmed_defects(
    oracle: GaussNewtonDiagonalOracle, test: AffineTest, diagonal: HostArrays, seed: int = 0
) -> dict[str, float]:
    """Return the relative curvatures of all groups, after a second look at those whose Gauss-Newton diagonal is known.

    Parameters
    ----------
    oracle
        The oracle whose outputs were tested.
    test
        What the affine test has measured.
    diagonal
        The Gauss-Newton diagonal of groups that are not known to be curved.
    seed
        Seed of the test.

    Returns
    -------
    dict of str to float
        Where a group passed and should not have, what was found instead; NaN if nobody can say.

    Examples
    --------
    All data are tested here, so that there is nothing to look for:

    >>> import numpy as np
    >>> from invariant_sharpness.estimators.affine_test import affine_test
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork((np.eye(2),)), np.array([[1.0, 1.0]]), np.array([0]))
    >>> confirmed_defects(oracle, affine_test(oracle), {"layers.0.weight": np.ones((2, 2))})
    {'layers.0.weight': 0.0}
    """
    if test.seen is None:
        return dict(test.defects)
    coverage = _Coverage(oracle, test.defects, test.seen, diagonal)
    for number in range(_MIRRORED_POINTS):
        if names := coverage.open_groups():
            mirrored = oracle.parameters * prng.signs(oracle, seed, number)
            coverage.add(*_repeated(oracle, test.seen, mirrored, names, seed))
    found = {**coverage.defects, **_on_all_examples(oracle, test.seen, coverage.open_groups(), seed)}
    return {**found, **_hidden_curvatures(oracle, found, diagonal, test.seen.scale)}


class _Coverage:
    """Which entries were reached by an example in a test that found no curvature in their group."""

    def __init__(
        self, oracle: GaussNewtonDiagonalOracle, defects: Mapping[str, float], seen: Seen, diagonal: HostArrays
    ) -> None:
        self.defects = dict(defects)
        self._oracle = oracle
        self._largest = largest_defects(oracle)
        scale, slopes = oracle.to_numpy(seen.scale), oracle.to_numpy(seen.slopes)
        squares = {name: np.abs(scale[name] ** 2 * values) for name, values in diagonal.items()}
        self._whole = {name: float(array.sum()) for name, array in squares.items()}
        self._unseen = {name: np.where(slopes[name] == 0, array, 0.0) for name, array in squares.items()}

    def open_groups(self) -> frozenset[str]:
        """Groups that nothing has reached, and those of whose diagonal more than rounding is unseen."""
        return frozenset(name for name in self._unseen if isnan(self.defects[name]) or self._is_open(name))

    def add(self, defects: Mapping[str, float], found: ParameterVector) -> None:
        """Count as seen what a test without curvature has reached, where it has found slopes."""
        slopes, flat = self._oracle.to_numpy(found), exact_groups(self._oracle, defects)
        for name in flat & self._unseen.keys():
            self._unseen[name][slopes[name] != 0] = 0.0
            if isnan(self.defects[name]):
                self.defects[name] = defects[name]

    def _is_open(self, name: str) -> bool:
        """A diagonal of zeros does not tell which entries matter: what is not seen is as much as the whole."""
        limit = self._largest[name]
        unseen, whole = float(self._unseen[name].sum()), self._whole[name]
        return self.defects[name] <= limit and (unseen > limit * whole or not whole)


def _on_all_examples(
    oracle: GaussNewtonDiagonalOracle, seen: Seen, names: frozenset[str], seed: int
) -> dict[str, float]:
    """Test these groups on all data, if the oracle can; a group that nothing reaches is one in which the outputs are constant."""
    able = capability(oracle, BlockCurvatureOracle)
    if able is None or not names:
        return dict.fromkeys(names, np.nan)
    defects, found = _repeated(oracle, seen, oracle.parameters, names, seed, able.examples)
    slopes = oracle.to_numpy(found)
    constant = {name for name in names if isnan(defects[name]) and not slopes[name].any()}
    return {name: 0.0 if name in constant else defects[name] for name in names}


def _repeated(
    oracle: GaussNewtonDiagonalOracle,
    seen: Seen,
    point: ParameterVector,
    names: frozenset[str],
    seed: int,
    examples: int | None = None,
) -> tuple[dict[str, float], ParameterVector]:
    """Repeat the test at a point in these groups, on so many examples, by default on as many as before: relative curvatures, and slopes."""
    derivatives = differentiated_outputs(oracle, point, seen.direction, names, seed, examples)
    slopes, curved = (seen.scale * derivative for derivative in derivatives)
    return relative_curvatures(oracle, slopes, curved, names), slopes


def _hidden_curvatures(
    oracle: GaussNewtonDiagonalOracle, defects: Mapping[str, float], diagonal: HostArrays, units: ParameterVector
) -> dict[str, float]:
    """What curvature below the threshold can add to the diagonal, relative to it, where that is more than rounding."""
    doubtful = [name for name in exact_groups(oracle, defects) & diagonal.keys() if defects[name] > 0]
    able = capability(oracle, ExampleGradientOracle)
    if able is None or not doubtful:
        return {}
    scale, moments = oracle.to_numpy(units), oracle.to_numpy(able.gradient_second_moment(oracle.parameters))
    possible = {name: defects[name] * float((scale[name] * np.sqrt(moments[name])).sum()) for name in doubtful}
    whole = {name: float(np.abs(scale[name] ** 2 * diagonal[name]).sum()) for name in doubtful}
    parts = {name: possible[name] / whole[name] if whole[name] > 0 else np.inf for name in doubtful}
    largest = largest_defects(oracle)
    return {name: part for name, part in parts.items() if part > largest[name]}
