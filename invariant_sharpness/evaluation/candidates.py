"""Metrics of the library and of others, in one form: a name, something to measure with, and what it is said to survive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.evaluation.measuring import OwnMetric, measure
from invariant_sharpness.metrics import METRICS
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate

NumberMetric = Callable[[CurvatureOracle], Any]
"""A metric that returns an Estimate, or anything that is a number."""

Outcome = Estimate | InvariantSharpnessError
"""What came of a measurement: a value, or the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A metric whose claims are to be tested.

    Parameters
    ----------
    name
        Of the metric.
    metric
        The name of one of the library's, or a callable that returns an Estimate.
    invariances
        What it is said to survive, in the words of the declarations.
    """

    name: str
    metric: str | OwnMetric
    invariances: frozenset[str]

    def outcome(self, oracle: CurvatureOracle, seed: int) -> Outcome:
        """Measure ``oracle`` with this metric alone."""
        try:
            (estimate,) = measure(oracle, [self.metric], seed=seed).values()
        except InvariantSharpnessError as error:
            return error
        return estimate


def candidate(metric: str | NumberMetric, claims: Collection[str] | None = None) -> Candidate:
    """Take a name, or a callable; ``claims`` replaces what the library declares.

    Raises
    ------
    ValueError
        If there is no metric of that name.
    """
    if not isinstance(metric, str):
        name = getattr(metric, "__name__", type(metric).__name__)
        return Candidate(name, _returning_estimates(metric, name), frozenset(claims or ()))
    if metric not in METRICS:
        msg = f"there is no metric {metric!r}; the metrics are {', '.join(METRICS)}"
        raise ValueError(msg)
    return Candidate(metric, metric, METRICS[metric].invariances if claims is None else frozenset(claims))


def candidates(
    metrics: str | Iterable[str | NumberMetric] | None, claims: Mapping[str, Collection[str]]
) -> list[Candidate]:
    """As :func:`candidate` for several; by default all metrics of the library that are not marked as costly.

    Raises
    ------
    ValueError
        If there is no metric of a name, or two have the same, or a claim is made for none of them.
    """
    if metrics is None:
        metrics = [name for name, metric in METRICS.items() if metric.default]
    asked = [metrics] if isinstance(metrics, str) else list(metrics)
    found = [candidate(metric, claims.get(candidate(metric).name)) for metric in asked]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        msg = f"two metrics have the same name among {', '.join(names)}: give each callable a __name__ of its own"
        raise ValueError(msg)
    if unknown := sorted(set(claims) - set(names)):
        msg = f"there are claims for {', '.join(unknown)}, but the metrics are {', '.join(names)}"
        raise ValueError(msg)
    return found


def outcomes(asked: list[Candidate], oracle: CurvatureOracle, seed: int) -> dict[str, Outcome]:
    """All metrics together, so that they share what they have in common; one by one if one of them cannot be measured."""
    try:
        report = measure(oracle, [one.metric for one in asked], seed=seed)
    except InvariantSharpnessError:
        return {one.name: one.outcome(oracle, seed) for one in asked}
    return dict(zip((one.name for one in asked), report.values(), strict=True))


def _returning_estimates(metric: NumberMetric, name: str) -> OwnMetric:
    def measured(oracle: CurvatureOracle) -> Estimate:
        value = metric(oracle)
        return replace(value, name=name) if isinstance(value, Estimate) else Estimate(name, float(value), "its own")

    return measured
