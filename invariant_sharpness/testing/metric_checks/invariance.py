"""A metric stays under the symmetries that it is said to survive."""

from __future__ import annotations

from math import isnan

import numpy as np

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.protocol import machine_epsilon
from invariant_sharpness.results.agreement import same_draws
from invariant_sharpness.results.records import Finding
from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.specimens import Specimen

_MOST_TRIED = 32


def check_invariance(trial: Trial, kind: str) -> Figures:
    """The value is the same, with the same seed, under mild, general and extreme moves of a kind. Cost: four values for each network."""
    findings = [(specimen, finding) for specimen in trial.specimens for finding in trial.findings(specimen, kind)]
    for specimen, finding in findings:
        _hold(trial, specimen, finding)
    changes = [finding.change for _, finding in findings if finding.verdict == "holds"]
    if findings and not changes:
        msg = f"no value is certain enough to be compared: {findings[0][1].reason}"
        raise CheckSkippedError(msg)
    if not changes:
        raise nothing_to_see(kind)
    return {"moves": len(changes), "largest_change": max(changes)}


def _hold(trial: Trial, specimen: Specimen, finding: Finding) -> None:
    """Raise if there is no value, or another one; one that has not converged is left out."""
    if isnan(finding.after):
        why = finding.reason or "it is NaN"
        msg = f"there is no value under {finding.move} of the kind {finding.kind!r} on {specimen}: {why}"
        raise CheckFailedError(msg)
    if finding.verdict == "CLAIM FAILS":
        raise CheckFailedError(_message(trial, specimen, finding), {"change": finding.change})


def _message(trial: Trial, specimen: Specimen, finding: Finding) -> str:
    return (
        f"{trial.name} is said to survive {finding.kind!r}, but moved from {finding.before:.6g} to {finding.after:.6g} on {specimen} "
        f"under {finding.move}, by {finding.change:.2g} (tolerated: {finding.tolerance:.2g}), where the loss moved by "
        f"{finding.loss_change:.1g}. {_smallest(trial, specimen, finding.kind)}Measure in coordinates that are rescaled as the parameters are, "
        f"random numbers too; take {finding.kind!r} out of the claims; or, if an iteration stopped early, return an Estimate with a certificate"
    )


def _smallest(trial: Trial, specimen: Specimen, kind: str) -> str:
    """The first generator with which a factor of two is enough, in words."""
    family = specimen.rescalings(kind)
    if family is None:
        return ""
    oracle, before = specimen.oracle, trial.value(specimen.oracle)
    for number, generator in enumerate(family[:_MOST_TRIED]):
        move = family.rescaling(np.eye(len(family))[number])
        after = trial.value(Moved(oracle, move.apply(oracle.parameters)))
        if not same_draws(before, after, machine_epsilon(oracle)).holds:
            return f"A factor of 2 is enough, {generator}: then it is {after.value:.6g}. "
    return ""
