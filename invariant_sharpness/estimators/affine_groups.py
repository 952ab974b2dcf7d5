"""The diagonal of the groups that pass the affine test, which is that of the Gauss-Newton matrix: exact, or from sampled outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from invariant_sharpness.coordinates.gauss_newton import is_gauss_newton
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.affine_confirmation import confirmed_defects
from invariant_sharpness.estimators.affine_test import AffineTest, affine_test, exact_groups, largest_defects
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.sampled_diagonal import sampled_groups
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    OneByOneOracle,
    ResidualDiagonalOracle,
    SampledGaussNewtonOracle,
    capability,
)

MOST_OUTPUTS = 256
"""Above this many outputs per example the exact diagonal, which takes as many backward passes, is not computed where they cannot be sampled."""

LEAST_SAMPLED_OUTPUTS = 64
"""No more outputs than this are never sampled: there is little to save, and the exact diagonal has no error."""


def certified_diagonal(
    oracle: CurvatureOracle,
    *,
    parameters: frozenset[str] | None = None,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> HessianDiagonal:
    """Return the diagonal of those named groups (default: all) that pass the affine test, exact or from sampled outputs.

    Cost: as many backward passes with per-example squaring as there are outputs, or ``probes`` if an example has more than
    :func:`most_exact_outputs`; and the affine test.
    """
    chosen = checked_names(oracle, parameters)
    if diagonal is None:
        most = most_exact_outputs(oracle, probes)
        diagonal = exact_diagonal(oracle, parameters=chosen, seed=seed, most_outputs=most)
    sampled, defects = _sampled(oracle, chosen - diagonal.groups.keys(), diagonal, probes, seed)
    known = replace(diagonal, groups={**diagonal.groups, **sampled}, probes=probes, defects=defects, test=None)
    return in_order(oracle, known)


def exact_diagonal(
    oracle: CurvatureOracle,
    *,
    parameters: frozenset[str] | None = None,
    seed: int = 0,
    test: AffineTest | None = None,
    most_outputs: float | None = None,
) -> HessianDiagonal:
    """Return the diagonal of those named groups (default: all) that pass the affine test, exactly.

    Where the oracle tells its layers apart, that of the Gauss-Newton matrix of the other groups comes with it, but of those that take one example at a time. Cost: one backward pass per
    output with per-example squaring, and the affine test unless it is given. It has no groups, but the verdicts
    of the affine test, if an example has more than ``most_outputs`` outputs (default: :func:`most_exact_outputs`), and nothing if the oracle
    does not know the Gauss-Newton diagonal.
    """
    chosen = checked_names(oracle, parameters)
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is None:
        return HessianDiagonal({})
    test = affine_test(able, seed) if test is None else test
    possible = not_curved(oracle, test.defects) & chosen
    most = most_exact_outputs(oracle) if most_outputs is None else most_outputs
    if able.outputs_per_example > most or not possible:
        return HessianDiagonal({}, defects=test.defects, test=test)
    layered = capability(oracle, ResidualDiagonalOracle) is not None and chosen > possible
    names = possible | (chosen - squared_one_by_one(oracle).keys()) if layered else possible
    arrays = oracle.to_numpy(able.gauss_newton_diagonal(oracle.parameters, names))
    values = {name: GroupDiagonal(arrays[name], "exact") for name in sorted(names)}
    defects = confirmed_defects(able, test, {name: arrays[name] for name in possible}, seed)
    exact = exact_groups(oracle, defects) & possible
    curved = {name: group for name, group in values.items() if name not in exact}
    known = HessianDiagonal({name: values[name] for name in exact}, defects=defects, gauss_newton=curved)
    return in_order(oracle, known)


def not_curved(oracle: CurvatureOracle, defects: Mapping[str, float]) -> frozenset[str]:
    """Return the groups that pass the affine test, or that no tested example reaches."""
    largest = largest_defects(oracle)
    return frozenset(name for name, defect in defects.items() if not defect > largest[name])


def most_exact_outputs(oracle: CurvatureOracle, probes: int = LEAST_SAMPLED_OUTPUTS) -> int:
    """Return up to how many outputs of an example the diagonal of the Gauss-Newton matrix is exact.

    It takes a backward pass for each output, at every position; of sampled outputs it takes one for each probe, with an error that is stated. What
    takes fewer passes is done.
    """
    return max(probes, LEAST_SAMPLED_OUTPUTS) if samples_outputs(oracle) else MOST_OUTPUTS


def has_gauss_newton_diagonal(oracle: CurvatureOracle) -> bool:
    """Whether the diagonal of the Gauss-Newton matrix is exact for few outputs, or can be sampled."""
    exact = capability(oracle, GaussNewtonDiagonalOracle)
    return (exact is not None and exact.outputs_per_example <= MOST_OUTPUTS) or samples_outputs(oracle)


def squared_one_by_one(oracle: CurvatureOracle) -> Mapping[str, int]:
    """Return the groups whose squares take one example at a time, with the number of examples in a batch; none where the oracle does not say."""
    able = capability(oracle, OneByOneOracle)
    return {} if able is None else able.squared_one_by_one(oracle.parameters)


def samples_outputs(oracle: CurvatureOracle) -> bool:
    """Whether the diagonal of the Gauss-Newton matrix can be sampled."""
    able = capability(oracle, SampledGaussNewtonOracle)
    return able is not None and able.samples_outputs


def in_order(oracle: CurvatureOracle, diagonal: HessianDiagonal) -> HessianDiagonal:
    """Return the groups in the order of the oracle's."""
    groups = {g.name: diagonal.groups[g.name] for g in oracle.groups if g.name in diagonal.groups}
    return replace(diagonal, groups=groups)


def checked_names(oracle: CurvatureOracle, names: frozenset[str] | None) -> frozenset[str]:
    """Return the named groups, by default all.

    Raises
    ------
    ArgumentError
        If there is no such group; lists the groups.
    """
    existing = frozenset(group.name for group in oracle.groups)
    names = None if names is None else frozenset([names] if isinstance(names, str) else names)
    unknown = (names or frozenset()) - existing
    if unknown:
        msg = f"there is no parameter group {', '.join(sorted(unknown))}; the groups are {', '.join(sorted(existing))}"
        raise ArgumentError(msg)
    return existing if names is None else names


def _sampled(
    oracle: CurvatureOracle, names: frozenset[str], known: HessianDiagonal, draws: int, seed: int
) -> tuple[dict[str, GroupDiagonal], Mapping[str, float]]:
    """Sample those of the named groups that pass the affine test, if the oracle can sample outputs, and confirm the test."""
    able, tested = capability(oracle, SampledGaussNewtonOracle), capability(oracle, GaussNewtonDiagonalOracle)
    if able is not None and tested is None and is_gauss_newton(oracle) and able.samples_outputs:
        return sampled_groups(able, names, draws, seed), {group.name: 0.0 for group in oracle.groups}
    possible = (exact_groups if known.test is None else not_curved)(oracle, known.defects) & names
    if able is None or tested is None or not possible or not able.samples_outputs:
        return {}, known.defects
    test = affine_test(tested, seed) if known.test is None else known.test
    groups = sampled_groups(able, possible, draws, seed)
    values = {name: group.values for name, group in groups.items()}
    defects = confirmed_defects(tested, replace(test, defects=known.defects), values, seed)
    return {name: groups[name] for name in exact_groups(oracle, defects) & possible}, defects
