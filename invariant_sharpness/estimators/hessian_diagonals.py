"""The diagonal of the Hessian: exact where that is free, sampled elsewhere.

Each group says how its part was obtained. Groups that pass the affine test (:mod:`~invariant_sharpness.estimators.affine_test`) get
the exact Gauss-Newton diagonal in as many backward passes as there are outputs, or, if these are many, a mean over sampled
outputs. The others get the columns of the Hessian if there are few, and otherwise the Gauss-Newton diagonal and draws at the layers' outputs
(:mod:`~invariant_sharpness.estimators.layer_draws`), or random probes where the oracle cannot tell its layers apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.affine_confirmation import confirmed_defects
from invariant_sharpness.estimators.affine_test import affine_test, exact_groups, largest_defects
from invariant_sharpness.estimators.column_diagonal import column_groups
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.layer_draws import MOST_OUTPUTS, curved_groups
from invariant_sharpness.estimators.sampled_diagonal import sampled_groups
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    SampledGaussNewtonOracle,
    capability,
)


@renamed(names="parameters", known="diagonal")
@checked_numbers
def hessian_diagonal(
    oracle: CurvatureOracle,
    *,
    parameters: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> HessianDiagonal:
    r"""The diagonal :math:`h_i = \partial^2 L / \partial\theta_i^2` of the named groups (default: all).

    Groups that pass the affine test cost at most one backward pass per output with per-example squaring, whatever the number of
    groups; ``probes`` such passes if an example has more than ``MOST_OUTPUTS`` outputs. If the others have no more entries
    than ``probes``, their columns are computed. If they have more, they take their Gauss-Newton diagonal and draws at the outputs of
    layers, which cost about as much as ``probes`` Hessian-vector products; outside of layers columns or probes, whichever cost
    less. Or they are probed in two stages with so many products, if the oracle cannot tell its layers apart.

    Invariances: every draw transforms under a rescaling exactly as h does, :math:`h_i \to h_i / d_i^2`.

    Cost: as said above, and the affine test. Memory: ten copies of the sampled groups.
    Source: Tsuzuku, Sato and Sugiyama (2019) for what it serves; this library for the two stages and the test.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    parameters
        Names of parameter groups; by default all.
    probes
        Number of random vectors, or of draws of the outputs, or of columns at most; at least 4.
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
    ValueError
        If ``probes`` is less than 4, or a group is not known.

    Examples
    --------
    Two columns are fewer than 64 probes, so the diagonal is exact:

    >>> from invariant_sharpness_numpy import quadratic
    >>> found = hessian_diagonal(quadratic([[2.0, 1.0], [1.0, 3.0]], [[1.0, 1.0]]))
    >>> [(group.values.tolist(), group.method) for group in found.groups.values()]
    [([[2.0, 3.0]], 'exact (columns)')]
    """
    random.require_probes(probes, 4)
    chosen = _checked(oracle, parameters)
    certified = certified_diagonal(oracle, parameters=chosen, probes=probes, seed=seed, diagonal=diagonal)
    rest = chosen - certified.groups.keys()
    few = sum(group.size for group in oracle.groups if group.name in rest) <= probes
    others = column_groups(oracle, rest) if few else curved_groups(oracle, rest, certified.defects, probes, seed)
    return _in_order(oracle, {**certified.groups, **others}, probes, certified.defects)


def certified_diagonal(
    oracle: CurvatureOracle,
    *,
    parameters: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> HessianDiagonal:
    """Return the diagonal of those named groups (default: all) that pass the affine test, exact or from sampled outputs.

    Cost: as many backward passes with per-example squaring as there are outputs, or ``probes`` if these are fewer and an
    example has more than ``MOST_OUTPUTS`` outputs; and the affine test.
    """
    chosen = _checked(oracle, parameters)
    if diagonal is None:
        diagonal = exact_diagonal(oracle, parameters=chosen, seed=seed)
    sampled, defects = _sampled(oracle, chosen - diagonal.groups.keys(), diagonal, probes, seed)
    return _in_order(oracle, {**diagonal.groups, **sampled}, probes, defects)


def exact_diagonal(
    oracle: CurvatureOracle, *, parameters: frozenset[str] | None = None, seed: int = 0
) -> HessianDiagonal:
    """Return the diagonal of those named groups (default: all) that pass the affine test, exactly.

    Cost: one backward pass per output with per-example squaring, and the affine test. It has no groups, but the verdicts
    of the affine test, if an example has more than ``MOST_OUTPUTS`` outputs, and nothing if the oracle does not know
    the Gauss-Newton diagonal.
    """
    chosen = _checked(oracle, parameters)
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None:
        return HessianDiagonal({})
    test = affine_test(able, seed)
    possible = _not_curved(oracle, test.defects) & chosen
    if able.outputs_per_example > MOST_OUTPUTS or not possible:
        return HessianDiagonal({}, defects=test.defects, test=test)
    values = oracle.to_numpy(able.gauss_newton_diagonal(oracle.parameters, possible))
    defects = confirmed_defects(able, test, {name: values[name] for name in possible}, seed)
    exact = exact_groups(oracle, defects) & possible
    return HessianDiagonal({n: GroupDiagonal(values[n], "exact") for n in values if n in exact}, defects=defects)


def _not_curved(oracle: CurvatureOracle, defects: Mapping[str, float]) -> frozenset[str]:
    """Groups that pass the affine test, or that no tested example reaches."""
    largest = largest_defects(oracle)
    return frozenset(name for name, defect in defects.items() if not defect > largest[name])


def _sampled(
    oracle: CurvatureOracle, names: frozenset[str], known: HessianDiagonal, draws: int, seed: int
) -> tuple[dict[str, GroupDiagonal], Mapping[str, float]]:
    """Sample those of the named groups that pass the affine test, if the oracle can sample outputs, and confirm the test."""
    able, tested = capability(oracle, SampledGaussNewtonOracle), capability(oracle, GaussNewtonDiagonalOracle)
    possible = (exact_groups if known.test is None else _not_curved)(oracle, known.defects) & names
    if able is None or tested is None or not possible or not able.samples_outputs:
        return {}, known.defects
    test = affine_test(tested, seed) if known.test is None else known.test
    groups = sampled_groups(able, possible, draws, seed)
    values = {name: group.values for name, group in groups.items()}
    defects = confirmed_defects(tested, replace(test, defects=known.defects), values, seed)
    return {name: groups[name] for name in exact_groups(oracle, defects) & possible}, defects


def _in_order(
    oracle: CurvatureOracle, groups: dict[str, GroupDiagonal], probes: int, defects: Mapping[str, float]
) -> HessianDiagonal:
    return HessianDiagonal({g.name: groups[g.name] for g in oracle.groups if g.name in groups}, probes, defects)


def _checked(oracle: CurvatureOracle, names: frozenset[str] | None) -> frozenset[str]:
    existing = frozenset(group.name for group in oracle.groups)
    names = None if names is None else frozenset([names] if isinstance(names, str) else names)
    unknown = (names or frozenset()) - existing
    if unknown:
        msg = f"there is no parameter group {', '.join(sorted(unknown))}; the groups are {', '.join(sorted(existing))}"
        raise ValueError(msg)
    return existing if names is None else names
