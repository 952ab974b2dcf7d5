"""The moves that a metric is tested with leave the loss alone."""

from __future__ import annotations

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.protocol import machine_epsilon
from invariant_sharpness.symmetries import transformations_of
from invariant_sharpness.testing.metric_checks.trial import Trial, nothing_to_see
from invariant_sharpness.testing.results import CheckFailedError, Figures
from invariant_sharpness.testing.specimens import RESCALINGS


def check_function_preserved(trial: Trial) -> Figures:
    """Every move leaves the loss alone, up to rounding: a metric is not to be blamed for a wrong move. Cost: one loss for each."""
    worst, moves = 0.0, 0
    for specimen in trial.specimens:
        oracle = specimen.oracle
        before = oracle.loss(oracle.parameters)
        kinds = dict.fromkeys([*RESCALINGS, *(symmetry.kind for symmetry in specimen.symmetries)])
        families = [(kind, family) for kind in kinds for family in specimen.families(kind)]
        for kind, family in families:
            for name, move in transformations_of(family, oracle, trial.seed).items():
                there = Moved(oracle, move.apply(oracle.parameters))
                change = abs(there.loss(there.parameters) - before) / (abs(before) or 1.0)
                worst, moves = max(worst, change), moves + 1
                if not change <= machine_epsilon(oracle) ** 0.5:
                    msg = (
                        f"the loss of {specimen} moved by {change:.2g} under {name} of the kind {kind!r}: that is no symmetry of "
                        f"this network, so leave it out of the Specimen, or correct what it moves"
                    )
                    raise CheckFailedError(msg, {"loss_change": change})
    if not moves:
        raise nothing_to_see(*RESCALINGS)
    return {"moves": moves, "loss_change": worst}
