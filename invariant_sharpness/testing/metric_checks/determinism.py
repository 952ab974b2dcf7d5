"""A metric gives the same number twice."""

from __future__ import annotations

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.points import nearby_point
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_determinism(trial: Trial) -> Figures:
    """The value is the same bit by bit, also after another network was measured in between. Cost: three values for each network."""
    for specimen in trial.specimens:
        first = trial.value(specimen.oracle).value
        trial.value(Moved(specimen.oracle, nearby_point(specimen.oracle, trial.seed)))
        second = trial.value(specimen.oracle).value
        if first != second:
            msg = (
                f"{trial.name} is {first!r} on {specimen}, and {second!r} when it is measured again: draw random numbers from a generator that "
                f"is made anew from a seed in every call (invariant_sharpness.prng), and keep nothing from call to call"
            )
            raise CheckFailedError(msg, {"difference": abs(first - second)})
    return {}
