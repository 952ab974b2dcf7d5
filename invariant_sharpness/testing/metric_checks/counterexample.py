"""A metric moves under the symmetries that it is not said to survive."""

from __future__ import annotations

from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_counterexample(trial: Trial, kind: str) -> Figures:
    """Some move of a kind changes the value: otherwise the claims are too weak, or the tests are blind. Cost: four values for each network."""
    changes = []
    for specimen in trial.specimens:
        findings = trial.findings(specimen, kind)
        changes += [finding.change for finding in findings if finding.verdict in ("moves", "stays")]
        if any(finding.verdict == "moves" for finding in findings):
            return {"moves": len(changes), "largest_change": max(changes)}
    if not changes:
        raise nothing_to_see(kind)
    msg = (
        f"{trial.name} is not said to survive {kind!r}, but it stayed, to {max(changes):.2g}, under all {len(changes)} moves: add {kind!r} to "
        f"its claims, if that is no accident"
    )
    raise CheckFailedError(msg, {"largest_change": max(changes)})
