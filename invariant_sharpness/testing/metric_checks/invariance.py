"""A metric stays under the symmetries that it is said to survive."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.certificate import Finding
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.precision import unit_of_rounding
from invariant_sharpness.testing.metric_checks.agreement import same_draws
from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, Figures
from invariant_sharpness.testing.specimens import Specimen

_MOST_TRIED = 32


def check_invariance(trial: Trial, kind: str) -> Figures:
    """The value is the same, with the same seed, under mild, general and extreme moves of a kind. Cost: four values for each network."""
    changes = []
    for specimen in trial.specimens:
        for finding in trial.findings(specimen, kind):
            if finding.verdict == "not measured":
                msg = f"there is no value under {finding.move} of the kind {kind!r} on {specimen}: {finding.reason}"
                raise CheckFailedError(msg)
            if finding.verdict == "CLAIM FAILS":
                raise CheckFailedError(_message(trial, specimen, finding), {"change": finding.change})
            changes.append(finding.change)
    if not changes:
        raise nothing_to_see(kind)
    return {"moves": len(changes), "largest_change": max(changes)}


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
        if not same_draws(before, after, unit_of_rounding(oracle)).holds:
            return f"A factor of 2 is enough, {generator}: then it is {after.value:.6g}. "
    return ""
