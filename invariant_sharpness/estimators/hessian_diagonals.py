"""The diagonal of the Hessian: exact where that is free, sampled elsewhere.

Each group says how its part was obtained. Groups that pass the affine test (:mod:`~invariant_sharpness.estimators.affine_test`) get
the exact Gauss-Newton diagonal in as many backward passes as there are outputs, or, if these are many, a mean over sampled
outputs. The others get the columns of the Hessian if there are few, and otherwise the Gauss-Newton diagonal and draws at the layers' outputs
(:mod:`~invariant_sharpness.estimators.layer_draws`), or random probes where the oracle cannot tell its layers apart.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.affine_groups import (
    certified_diagonal,
    checked_names,
    exact_diagonal,
    in_order,
    not_curved,
)
from invariant_sharpness.estimators.affine_test import affine_test, exact_groups
from invariant_sharpness.estimators.column_diagonal import affords_columns, column_groups
from invariant_sharpness.estimators.diagonal_plan import announced, is_large, plan_of_probes, plan_within
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.estimators.layer_draws import curved_groups
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.estimators.residual_plan import Plan
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonDiagonalOracle, capability
from invariant_sharpness.runtime.memory import give_back_freed


@renamed(names="parameters", known="diagonal")
@checked_numbers
def hessian_diagonal(
    oracle: CurvatureOracle,
    *,
    parameters: frozenset[str] | None = None,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> HessianDiagonal:
    r"""The diagonal :math:`h_i = \partial^2 L / \partial\theta_i^2` of the named groups (default: all).

    Groups that pass the affine test cost at most one backward pass per output with per-example squaring, whatever the number of
    groups; ``probes`` such passes if an example has more outputs than that, and more than 64. If the others have no more entries
    than ``probes``, their columns are computed. If they have more, they take their Gauss-Newton diagonal and draws at the outputs of
    layers, or at the operations above convolutions, which cost about as much as ``probes`` Hessian-vector products; outside of layers columns or
    probes, whichever cost less. Or they are probed in two stages with so many products, if the oracle cannot tell its layers apart.

    Networks of more than ten million parameters get all of this within the cost of ``probes`` products, or with the least of draws that there is. With a ``budget`` everything is exact if an exact way fits into it: all columns, or the Gauss-Newton diagonal and one unit vector for each
    output of every layer, whichever costs less. If none fits, as many draws are taken as do, and layers with few outputs stay exact
    (:mod:`~invariant_sharpness.estimators.diagonal_plan`). ``plan`` of the result says which, and those who watch the progress are told before it is computed.

    Invariances: every draw transforms under a rescaling exactly as h does, :math:`h_i \to h_i / d_i^2`.

    Cost: as said above, and the affine test; with a budget no more than that, by the costs of :doc:`cost`. Memory: a copy of the
    sampled groups for each of ten parts, in their own precision; four parts where the network has more than a million parameters.
    Source: Tsuzuku, Sato and Sugiyama (2019) for what it serves; this library for the two stages and the test.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    parameters
        Names of parameter groups; by default all.
    probes
        Number of random vectors, or of draws of the outputs, or of columns at most; at least 4.
    budget
        What all groups together may cost in gradients, the Gauss-Newton diagonal and the affine test included. It takes the place of ``probes``.
    seed
        Seed of the affine test and of all draws.
    diagonal
        Groups that are known already, from :func:`exact_diagonal`; they are part of the result.

    Returns
    -------
    HessianDiagonal
        The diagonal group by group, each with its method.

    Raises
    ------
    ArgumentError
        If ``probes`` is less than 4, a group is not known, or nothing fits into the budget; says what the least costs.

    Examples
    --------
    Two columns are fewer than 64 probes, so the diagonal is exact:

    >>> from invariant_sharpness_numpy import quadratic
    >>> found = hessian_diagonal(quadratic([[2.0, 1.0], [1.0, 3.0]], [[1.0, 1.0]]))
    >>> [(group.values.tolist(), group.method) for group in found.groups.values()]
    [([[2.0, 3.0]], 'exact (columns)')]
    """
    random.require_probes(probes, 4)
    chosen = checked_names(oracle, parameters)
    if budget is not None or is_large(oracle):
        given = HessianDiagonal({}) if diagonal is None else diagonal
        return _within(oracle, chosen, budget, GRADIENTS_PER_PRODUCT * probes, seed, given)
    known = certified_diagonal(oracle, parameters=chosen, probes=probes, seed=seed, diagonal=diagonal)
    rest = chosen - known.groups.keys()
    curved = rest | frozenset(group.name for group in oracle.groups) - exact_groups(oracle, known.defects)
    sizes = {group.name: group.size for group in oracle.groups}
    if sum(sizes[n] for n in rest) <= probes or affords_columns(oracle, sum(sizes[n] for n in curved), probes):
        return _with(oracle, known, HessianDiagonal(column_groups(oracle, rest)))
    plan = announced(plan_of_probes(oracle, rest, known.defects, probes))
    return _with(oracle, known, curved_groups(oracle, rest, known, plan, seed))


def _within(
    oracle: CurvatureOracle,
    chosen: frozenset[str],
    budget: float | None,
    default: float,
    seed: int,
    given: HessianDiagonal,
) -> HessianDiagonal:
    """Plan for all groups, so that a group gets the same whichever others are asked for, and compute those that are not given.

    A budget that the user gives is kept, and the default one as far as the least of draws allows.
    """

    def planned(curved: frozenset[str]) -> Plan:
        gradients = default if budget is None else budget
        return announced(plan_within(oracle, curved, gradients, at_least=budget is None))

    everything, missing = frozenset(group.name for group in oracle.groups), chosen - given.groups.keys()
    if not missing:
        return given
    able = capability(oracle, GaussNewtonDiagonalOracle)
    test = given.test if able is None or given.test is not None else affine_test(able, seed)
    possible = frozenset() if test is None else not_curved(oracle, test.defects)
    plan = planned(everything - possible)
    known = HessianDiagonal({}) if test is None else HessianDiagonal({}, defects=test.defects, test=test)
    if not plan.samples:
        names = missing - plan.without_gauss_newton
        known = exact_diagonal(oracle, parameters=names, seed=seed, test=test, most_outputs=inf)
    known = certified_diagonal(oracle, parameters=missing, probes=plan.samples, seed=seed, diagonal=known)
    known = replace(known, gauss_newton={**given.gauss_newton, **known.gauss_newton}, plan=plan)
    rest = missing - known.groups.keys()
    if rest & possible:  # these passed the affine test, and its confirmation has found them curved
        plan = planned(everything - exact_groups(oracle, known.defects))
    found = _with(oracle, known, curved_groups(oracle, rest, known, plan, seed) if rest else HessianDiagonal({}))
    give_back_freed(oracle)
    return _with(oracle, found, given)


def _with(oracle: CurvatureOracle, known: HessianDiagonal, others: HessianDiagonal) -> HessianDiagonal:
    gauss_newton = {**known.gauss_newton, **others.gauss_newton}
    return in_order(oracle, replace(known, groups={**known.groups, **others.groups}, gauss_newton=gauss_newton))
