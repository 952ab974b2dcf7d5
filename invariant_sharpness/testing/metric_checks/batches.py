"""A metric is one of the examples, not of how they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invariant_sharpness import prng
from invariant_sharpness.protocol import SubsetOracle, machine_epsilon, require
from invariant_sharpness.results.agreement import other_draws
from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures
from invariant_sharpness.testing.specimens import Specimen

_BATCH_SIZES = (7, 1)
_ADVICE = "sum over the examples, and divide once by their number or weight. If examples are sampled, return an Estimate with its standard_error"


def check_batch_order(trial: Trial) -> Figures:
    """With the examples in another order the value is the same, up to its standard error. Cost: two values for each network."""
    changes = []
    for specimen in _rebuildable(trial):
        count = _count(specimen)
        order = prng.permutation(trial.seed, count).tolist()
        changes.append(_change(trial, specimen, order, count, "with the examples in another order"))
    return {"largest_change": max(changes)}


def check_batch_size(trial: Trial) -> Figures:
    """In batches of seven (the last is shorter) and of one the value is the same, up to its standard error. Cost: three values for each network."""
    changes = []
    for specimen in _rebuildable(trial):
        order = range(_count(specimen))
        for size in _BATCH_SIZES:
            changes.append(_change(trial, specimen, order, size, f"in batches of {size}"))  # noqa: PERF401
    return {"largest_change": max(changes)}


def _rebuildable(trial: Trial) -> list[Specimen]:
    specimens = [specimen for specimen in trial.specimens if specimen.rebuild]
    if not specimens:
        msg = (
            "an oracle has the batches that it was given: to compare others, give Specimen(oracle, rebuild=(order, batch_size) -> oracle), "
            "or no networks, which takes the default ones"
        )
        raise CheckSkippedError(msg)
    return specimens


def _count(specimen: Specimen) -> int:
    return require(specimen.oracle, SubsetOracle, metric="check_metric").examples


def _change(trial: Trial, specimen: Specimen, order: Sequence[int], batch_size: int, how: str) -> float:
    rebuild: Any = specimen.rebuild
    before, after = trial.value(specimen.oracle), trial.value(rebuild(order, batch_size))
    agreement = other_draws(before, after, machine_epsilon(specimen.oracle))
    if not agreement.holds:
        msg = f"{how}, the values of {trial.name} on {specimen} are {agreement}: {_ADVICE}"
        raise CheckFailedError(msg, {"change": agreement.change})
    return agreement.change
