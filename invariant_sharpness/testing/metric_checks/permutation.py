"""A metric treats units alike."""

from __future__ import annotations

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.protocol import machine_epsilon
from invariant_sharpness.results.agreement import other_draws, same_draws
from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_permutation(trial: Trial) -> Figures:
    """With hidden units in another order the value is the same; up to its standard error, unless it claims more. Cost: two values per layer."""
    changes = []
    compare = same_draws if trial.claims("permutation") else other_draws
    for specimen in trial.specimens:
        oracle, before = specimen.oracle, trial.value(specimen.oracle)
        for permutation in specimen.permutations:
            for move in permutation.transformations(trial.seed).values():
                after = trial.value(Moved(oracle, move.apply(oracle.parameters)))
                agreement = compare(before, after, machine_epsilon(oracle))
                changes.append(agreement.change)
                if not agreement.holds:
                    msg = (
                        f"with the outputs of {permutation.incoming[0]} in another order, the values of {trial.name} on {specimen} are {agreement}: "
                        f"treat units alike. If the value is sampled, return an Estimate with its standard_error"
                    )
                    raise CheckFailedError(msg, {"change": agreement.change})
    if not changes:
        kind = "permutation"
        raise nothing_to_see(kind)
    return {"moves": len(changes), "largest_change": max(changes)}
