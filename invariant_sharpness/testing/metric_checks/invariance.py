"""Invariance: a metric stays under the symmetries that it declares, also extreme ones, and is changed by all others."""

from __future__ import annotations

from math import isfinite, isnan, log2

import numpy as np

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.protocol import machine_epsilon
from invariant_sharpness.results.agreement import other_draws, same_draws
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.records import Finding
from invariant_sharpness.symmetries import Symmetries, transformations_of
from invariant_sharpness.testing.metric_checks.case import Case, no_symmetry
from invariant_sharpness.testing.problems import RESCALINGS, Problem
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

_MOST_TRIED = 32

_LARGEST_EXPONENT = 40
"""Second derivatives are then up to 2**160 times larger; a product of two more is still finite."""

_SHARE_OF_THE_RANGE = 25


def check_function_preserved(case: Case) -> Figures:
    """Check that every transformation leaves the loss alone, up to rounding: a metric is not to blame for a wrong one.

    Cost: one loss for each.
    """
    worst, moves = 0.0, 0
    for problem in case.problems:
        oracle = problem.oracle
        before = oracle.loss(oracle.parameters)
        for kind in dict.fromkeys([*RESCALINGS, *(symmetry.kind for symmetry in problem.symmetries)]):
            families = [transformations_of(family, oracle, case.seed) for family in problem.families(kind)]
            for name, transformation in (pair for family in families for pair in family.items()):
                moved = Moved(oracle, transformation.apply(oracle.parameters))
                change = abs(moved.loss(moved.parameters) - before) / (abs(before) or 1.0)
                worst, moves = max(worst, change), moves + 1
                if not change <= machine_epsilon(oracle) ** 0.5:
                    msg = (
                        f"the loss of {problem} moved by {change:.2g} under {name} of the kind {kind!r}: that is no symmetry of "
                        f"this network, so leave it out of the Problem, or correct what it moves"
                    )
                    raise CheckFailedError(msg, {"loss_change": change})
    if not moves:
        raise no_symmetry(*RESCALINGS)
    return {"moves": moves, "loss_change": worst}


def check_invariance(case: Case, kind: str) -> Figures:
    """Check that the value stays, with the same seed, under mild, general and extreme transformations of a kind.

    Cost: four values for each network.
    """
    records = [(problem, record) for problem in case.problems for record in case.records(problem, kind)]
    for problem, record in records:
        _require_same(case, problem, record)
    changes = [record.change for _, record in records if record.verdict == "holds"]
    if records and not changes:
        msg = f"no value is certain enough to be compared: {records[0][1].reason}"
        raise CheckSkippedError(msg)
    if not changes:
        raise no_symmetry(kind)
    return {"moves": len(changes), "largest_change": max(changes)}


def check_counterexample(case: Case, kind: str) -> Figures:
    """Check that some transformation of a kind changes the value: otherwise the claims are too weak, or the tests are blind.

    Cost: four values for each network.
    """
    changes = []
    for problem in case.problems:
        records = case.records(problem, kind)
        changes += [record.change for record in records if record.verdict in ("moves", "stays")]
        if any(record.verdict == "moves" for record in records):
            return {"moves": len(changes), "largest_change": max(changes)}
    if not changes:
        raise no_symmetry(kind)
    msg = (
        f"{case.name} is not declared invariant under {kind!r}, but it stayed, to {max(changes):.2g}, under all {len(changes)} moves: "
        f"add {kind!r} to its claims, if that is no accident"
    )
    raise CheckFailedError(msg, {"largest_change": max(changes)})


def check_permutation(case: Case) -> Figures:
    """Check that the value stays with hidden units in another order; up to its standard error, unless more is declared.

    Cost: two values per layer.
    """
    changes = []
    compare = same_draws if case.is_invariant_to("permutation") else other_draws
    for problem in case.problems:
        oracle, before = problem.oracle, case.value(problem.oracle)
        for permutation in problem.permutations:
            for transformation in permutation.transformations(case.seed).values():
                after = case.value(Moved(oracle, transformation.apply(oracle.parameters)))
                agreement = compare(before, after, machine_epsilon(oracle))
                changes.append(agreement.change)
                if not agreement.holds:
                    msg = (
                        f"with the outputs of {permutation.incoming[0]} in another order, the values of {case.name} on {problem} are {agreement}: "
                        f"treat units alike. If the value is sampled, return an Estimate with its standard_error"
                    )
                    raise CheckFailedError(msg, {"change": agreement.change})
    if not changes:
        kind = "permutation"
        raise no_symmetry(kind)
    return {"moves": len(changes), "largest_change": max(changes)}


def check_extreme_scales(case: Case) -> Figures:
    """Check that with units times 2**40 and 2**-40 in turn the value is finite, and stays if it is declared invariant.

    Cost: three values for each network.
    """
    changes, found = [], 0
    for problem in case.problems:
        before = case.value(problem.oracle)
        for kind in RESCALINGS:
            family = problem.rescalings(kind)
            if family:
                found += 1
                change = _extreme_change(case, problem, kind, family, before)
                changes += [change] if case.is_invariant_to(kind) else []
    if not found:
        raise no_symmetry(*RESCALINGS)
    return {"moves": found, "largest_change": max(changes, default=0.0)}


def _require_same(case: Case, problem: Problem, record: Finding) -> None:
    """Raise if there is no value, or another one; one that has not converged is left out."""
    if isnan(record.after):
        why = record.reason or "it is NaN"
        msg = f"there is no value under {record.move} of the kind {record.kind!r} on {problem}: {why}"
        raise CheckFailedError(msg)
    if record.verdict == "CLAIM FAILS":
        raise CheckFailedError(_message(case, problem, record), {"change": record.change})


def _message(case: Case, problem: Problem, record: Finding) -> str:
    return (
        f"{case.name} is declared invariant under {record.kind!r}, but moved from {record.before:.6g} to {record.after:.6g} on {problem} "
        f"under {record.move}, by {record.change:.2g} (tolerated: {record.tolerance:.2g}), where the loss moved by "
        f"{record.loss_change:.1g}. {_smallest(case, problem, record.kind)}Measure in coordinates that are rescaled as the parameters are, "
        f"random numbers too; take {record.kind!r} out of the claims; or, if an iteration stopped early, return an Estimate with a certificate"
    )


def _smallest(case: Case, problem: Problem, kind: str) -> str:
    """Name the first generator with which a factor of two is enough, in words."""
    family = problem.rescalings(kind)
    if family is None:
        return ""
    oracle, before = problem.oracle, case.value(problem.oracle)
    for number, generator in enumerate(family[:_MOST_TRIED]):
        transformation = family.rescaling(np.eye(len(family))[number])
        after = case.value(Moved(oracle, transformation.apply(oracle.parameters)))
        if not same_draws(before, after, machine_epsilon(oracle)).holds:
            return f"A factor of 2 is enough, {generator}: then it is {after.value:.6g}. "
    return ""


def _extreme_change(case: Case, problem: Problem, kind: str, family: Symmetries, before: Estimate) -> float:
    """Return the relative change, if the value is finite and, where it is declared so, the same."""
    exponent = _exponent(problem)
    in_turn = np.where(np.arange(len(family)) % 2, -float(exponent), float(exponent))
    point = family.rescaling(in_turn).apply(problem.oracle.parameters)
    after = case.value(Moved(problem.oracle, point))
    where = f"on {problem} with factors 2**{exponent} and 2**-{exponent} in turn, of the kind {kind!r}"
    if not isfinite(after.value):
        msg = (
            f"{case.name} is {after.value} {where}, where the loss is what it was: multiply scales and derivatives before "
            f"either is squared, add logarithms instead of multiplying, and divide by nothing that can vanish"
        )
        raise CheckFailedError(msg)
    agreement = same_draws(before, after, machine_epsilon(problem.oracle))
    if case.is_invariant_to(kind) and not agreement.holds:
        msg = (
            f"before and after, the values of {case.name} {where} are {agreement}: look for a constant that is added, such as an "
            f"epsilon, and for sums of what is tiny and what is huge"
        )
        raise CheckFailedError(msg, {"change": agreement.change})
    return agreement.change


def _exponent(problem: Problem) -> int:
    """Return 40, or 5 in single precision, whose exponents have an eighth of the range of double precision."""
    oracle = problem.oracle
    ranges = [log2(float(oracle.xp.finfo(array.dtype).max)) for array in oracle.parameters.arrays.values()]
    return min(_LARGEST_EXPONENT, int(min(ranges)) // _SHARE_OF_THE_RANGE)
