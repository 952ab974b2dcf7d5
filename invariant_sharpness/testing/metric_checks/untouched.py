"""Measuring leaves no trace."""

from __future__ import annotations

from typing import Any

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.results import CheckFailedError, Figures
from invariant_sharpness.testing.specimens import Specimen


def check_state_restored(trial: Trial) -> Figures:
    """Parameters, loss and gradient are what they were before, bit by bit; so is the snapshot of a Specimen that has one. Cost: one value."""
    for specimen in trial.specimens:
        before = _visible(specimen)
        trial.value(specimen.oracle)
        after = _visible(specimen)
        if changed := [what for what in before if before[what] != after[what]]:
            msg = (
                f"measuring {trial.name} changed {', '.join(changed)} of {specimen}: work on copies (oracle.parameters may be the model's own "
                f"memory), and put the model back in a finally clause"
            )
            raise CheckFailedError(msg)
    return {}


def _visible(specimen: Specimen) -> dict[str, Any]:
    oracle = specimen.oracle
    point = oracle.parameters
    return {
        "the parameters": _bytes(oracle, point),
        "the loss": oracle.loss(point),
        "the gradient": _bytes(oracle, oracle.gradient(point)),
        "the model": specimen.snapshot() if specimen.snapshot else None,
    }


def _bytes(oracle: CurvatureOracle, vector: ParameterVector) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in oracle.to_numpy(vector).items()}
