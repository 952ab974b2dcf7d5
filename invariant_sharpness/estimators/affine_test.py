r"""The affine test says in which parameter groups the diagonal of the Hessian is that of the Gauss-Newton matrix.

The Hessian of a mean loss is :math:`H = G + \sum_{nk} \frac{\partial \ell_n}{\partial z_{nk}} \nabla^2 z_{nk}`. If the outputs are (locally) an affine
function of a parameter group, because every path crosses it at most once and all that follows is piecewise
linear, then :math:`\nabla^2_{gg} z_{nk} = 0` and the two blocks are equal, for *any* loss.

This is not assumed but tested, in three steps.

0. *Before anything is differentiated*, the program of the network is read, if the oracle can (:class:`~invariant_sharpness.protocol.OutputFormOracle`). A group that is below
   no curved operation is affine by form, and its first derivatives alone are computed; on TensorFlow, whose program is that of all examples, not even
   these are. Of those below one, a few are differentiated twice, on one example: if all that this example reaches are curved, so the others count, too.
   Otherwise form is no guide, and all groups are tested. Where the program does not tell, the group is tested. To count as curved costs accuracy and is never wrong; to count as affine takes the form or the test.
1. *Before the diagonal*, on a few examples, spread evenly over the data (:func:`curvature_defects`): for random cotangents c,
   :math:`\phi = \sum_{nk} c_{nk} z_{nk}`, and a random direction u on the group, :math:`(\nabla^2_{gg} \phi) u` vanishes with probability one only if
   all :math:`\nabla^2_{gg} z_{nk}` do. Comparing ``H u`` with ``G u`` for the loss itself is weaker: there the second term is weighted with
   the residuals, which are small where the network already fits the few examples of the test, and not small elsewhere.
2. *After it*, against all data (:mod:`~invariant_sharpness.estimators.affine_confirmation`): what of the diagonal lies in entries that no
   example of the first step reaches, and what curvature below the threshold could add to it.

A group that no tested example reaches has the relative curvature 0 / 0, which is NaN here: it passes neither as affine nor as curved.

:func:`affine_test` measures and :func:`exact_groups` decides, in the end on what the second step has found: in ``exact_diagonal`` of
:mod:`~invariant_sharpness.estimators.hessian_diagonals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf, isnan
from typing import NamedTuple

import numpy as np

from invariant_sharpness import prng
from invariant_sharpness.adapters import (
    first_examples,  # its function by name would be a test to pytest, by the name of this file
)
from invariant_sharpness.coordinates.restricted import Restricted
from invariant_sharpness.coordinates.scales import magnitudes
from invariant_sharpness.parameters.vector import Array, ParameterVector
from invariant_sharpness.protocol import (
    BlockCurvatureOracle,
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    OutputFormOracle,
    capability,
)
from invariant_sharpness.runtime.progress import reporter

_ROUNDING = 1000.0
"""A relative curvature up to this many machine epsilons counts as zero; real ones are of order one."""


class Seen(NamedTuple):
    r"""What tested examples have shown. Groups that did not have to be tested are left out of all three.

    Parameters
    ----------
    slopes
        The derivative of the random combination of the outputs, in units of the parameters: an entry in which it is zero is
        reached by none of the tested examples.
    scale
        The units, :math:`s = |\theta|`.
    direction
        The direction :math:`u = s \circ r` along which the outputs were differentiated twice.
    """

    slopes: ParameterVector
    scale: ParameterVector
    direction: ParameterVector


@dataclass(frozen=True, slots=True)
class AffineTest:
    r"""What the affine test has measured.

    Parameters
    ----------
    defects
        The relative curvature of the outputs in each group; NaN where no tested example reaches the group.
    seen
        What was seen of the groups that had to be tested; None if there are none.
    """

    defects: Mapping[str, float]
    seen: Seen | None


def affine_test(oracle: GaussNewtonDiagonalOracle, seed: int = 0) -> AffineTest:
    """Measure in which groups the outputs are curved, on as little of the data as tells.

    Cost: about two gradients, whatever the number of groups, where the oracle reads the program of the network and its groups are
    affine or curved by form, and none where all are affine in a program that all examples pass; otherwise a gradient and a backward pass for each
    group, on a few examples.

    Parameters
    ----------
    oracle
        An oracle that differentiates random combinations of its outputs.
    seed
        Seed of the cotangents and of the direction.

    Returns
    -------
    AffineTest
        The relative curvatures, infinite in groups that count as curved by their form, and the slopes of those that were tested.
    """
    names = frozenset(group.name for group in oracle.groups)
    able = capability(oracle, OutputFormOracle)
    if able is None:
        return _measured(oracle, names, seed)
    report = reporter("affine test", 3, _GRADIENTS_PER_STEP)
    report(0)
    form = able.output_form(oracle.parameters)
    if form.by_definition:
        return AffineTest(dict.fromkeys(names, 0.0), None)
    report(1)
    curved = _curved_by_form(able, form.curved, seed)
    affine = names - form.curved - form.unknown if form.of_every_example else frozenset[str]()
    report(2)
    found = _measured(able, names - curved.keys() - affine, seed)
    report(3)
    return replace(found, defects={**found.defects, **curved, **dict.fromkeys(affine, 0.0)})


_GRADIENTS_PER_STEP = 0.7
"""What a step of the test costs, for the progress that is reported."""

_WITNESSES = 3
"""So many of the groups that are curved by their form are differentiated twice."""


def _curved_by_form(oracle: OutputFormOracle, names: frozenset[str], seed: int) -> dict[str, float]:
    """Return the relative curvatures of the groups that are curved by their form, which was looked at in a few; none if it was wrong in one."""
    ordered = [group.name for group in oracle.groups if group.name in names]
    count = min(_WITNESSES, len(ordered))
    witnesses = frozenset(ordered[(2 * k + 1) * len(ordered) // (2 * count)] for k in range(count))
    if not witnesses:
        return {}
    scale, direction = _direction(oracle, witnesses, seed)
    derivatives = oracle.block_curvature(oracle.parameters, direction, witnesses, 1, seed)
    first, second = (replace(scale, arrays={n: scale[n] * found[n] for n in witnesses}) for found in derivatives)
    found = relative_curvatures(oracle, first, second, witnesses)
    reached, largest = {n: defect for n, defect in found.items() if not isnan(defect)}, largest_defects(oracle)
    if not reached or any(defect <= largest[name] for name, defect in reached.items()):
        return {}
    return {**dict.fromkeys(names, inf), **reached}


def _measured(oracle: GaussNewtonDiagonalOracle, names: frozenset[str], seed: int) -> AffineTest:
    """Differentiate the outputs twice in these groups, and in each of them alone."""
    if not names:
        return AffineTest({}, None)
    scale, direction = _direction(oracle, names, seed)
    derivatives = differentiated_outputs(oracle, oracle.parameters, direction, names, seed, None)
    slopes, curved = (scale * derivative for derivative in derivatives)
    return AffineTest(relative_curvatures(oracle, slopes, curved, names), Seen(slopes, scale, direction))


def differentiated_outputs(
    oracle: GaussNewtonDiagonalOracle,
    point: ParameterVector,
    direction: ParameterVector,
    names: frozenset[str],
    seed: int,
    examples: int | None,
) -> tuple[ParameterVector, ParameterVector]:
    """Differentiate the outputs twice at a point, in these groups if the oracle can be told, and on so many examples; by default, on a few."""
    able = capability(oracle, BlockCurvatureOracle)
    if able is None or (examples is None and len(names) == len(oracle.groups)):
        return oracle.output_curvature(point, direction, seed)
    number = first_examples.tested_examples(able.examples) if examples is None else examples
    return able.block_curvature(point, direction, names, number, seed)


def _direction(oracle: CurvatureOracle, names: frozenset[str], seed: int) -> tuple[ParameterVector, ParameterVector]:
    """Return the units and the direction in these groups; the parameters stand in the place of all others."""
    whole = len(names) == len(oracle.groups)
    part, at = oracle if whole else Restricted(oracle, names), oracle.parameters
    scale = magnitudes(part)
    direction = scale * prng.uniform(part, seed, 0)
    scale, direction = (replace(at, arrays={**at.arrays, **vector.arrays}) for vector in (scale, direction))
    return scale, direction


def curvature_defects(oracle: GaussNewtonDiagonalOracle, seed: int = 0) -> dict[str, float]:
    r"""Measure the relative curvature of the outputs in each group, :math:`\|s \circ (\nabla^2_{gg}\phi) u\| / \|s \circ \nabla_g \phi\|`.

    The direction is ``u = s * r``, with ``s = abs(theta)`` and ``r`` uniform on [-1, 1): the relative curvature does not
    change when the network is rescaled, and so neither does the verdict. Cost: one gradient and one more
    backward pass per group, on a few examples, spread evenly over the data.

    Parameters
    ----------
    oracle
        An oracle that differentiates random combinations of its outputs.
    seed
        Seed of the cotangents and of the direction.

    Returns
    -------
    dict of str to float
        Zero up to rounding for a group in which the outputs are affine, and of order one for others; NaN for a group that no
        tested example reaches.

    Examples
    --------
    The outputs of a linear layer are affine in its weight:

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork((np.eye(2),)), np.array([[1.0, 1.0]]), np.array([0]))
    >>> curvature_defects(oracle)
    {'layers.0.weight': 0.0}
    """
    return dict(_measured(oracle, frozenset(group.name for group in oracle.groups), seed).defects)


def exact_groups(oracle: CurvatureOracle, defects: Mapping[str, float]) -> frozenset[str]:
    """Return the groups that pass the affine test: their relative curvature is rounding in their own precision.

    Parameters
    ----------
    oracle
        The oracle whose groups they are.
    defects
        The relative curvature of each group, from :func:`curvature_defects`.

    Returns
    -------
    frozenset of str
        Names of groups. Their diagonal blocks of the Hessian and of the Gauss-Newton matrix are equal.
    """
    largest = largest_defects(oracle)
    return frozenset(name for name, defect in defects.items() if defect <= largest[name])


def largest_defects(oracle: CurvatureOracle) -> dict[str, float]:
    """Return the relative curvature up to which each group counts as affine, by its own precision."""
    return {
        name: _ROUNDING * float(oracle.xp.finfo(array.dtype).eps) for name, array in oracle.parameters.arrays.items()
    }


def relative_curvatures(
    oracle: CurvatureOracle, first: ParameterVector, second: ParameterVector, names: frozenset[str]
) -> dict[str, float]:
    """Return the norm of the second derivative over that of the first in each of these groups, both in units of the parameters."""
    return {
        group.name: _ratio(_norm(oracle, second[group.name]), _norm(oracle, first[group.name]))
        for group in oracle.groups
        if group.name in names
    }


def _norm(oracle: CurvatureOracle, values: Array) -> float:
    return float(oracle.xp.sum(values * values)) ** 0.5


def _ratio(second: float, first: float) -> float:
    if first > 0:
        return second / first
    return np.nan if second == 0 else np.inf
