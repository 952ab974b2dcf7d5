"""What comes of one measurement of a monitor, which loses no value for the error of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from invariant_sharpness.adapters.optimizers import OptimizerState, optimizer_state
from invariant_sharpness.errors import InvariantSharpnessError, NonFiniteError
from invariant_sharpness.estimators.warm_starts import WarmStart
from invariant_sharpness.evaluation.measuring import Measurement
from invariant_sharpness.metrics import Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


class Found(NamedTuple):
    """The parts of an entry that are measured."""

    loss: float
    estimates: Mapping[str, Estimate]
    errors: Mapping[str, str]
    learning_rate: float | None = None
    threshold: float | None = None
    signature: str = ""


class Measuring:
    """Measures with the same metrics again and again.

    Parameters
    ----------
    metrics
        Each has a name of its own.
    seed, probes
        As in :func:`invariant_sharpness.measure`.
    """

    def __init__(self, metrics: Sequence[Metric[...]], seed: int, probes: int) -> None:
        self._metrics, self._seed, self._probes = metrics, seed, probes
        self._starts = {metric.name: WarmStart() for metric in metrics if "start" in metric.options}

    def found(self, oracle: CurvatureOracle, optimizer: Any) -> Found:
        """Return what can be measured, and in words what cannot be."""
        measurement = Measurement(oracle, seed=self._seed, probes=self._probes)
        state, told = _state(oracle, optimizer)
        loss = _loss(measurement)
        estimates: dict[str, Estimate] = {}
        errors: dict[str, str] = {}
        for metric in self._metrics:
            try:
                measurement.require_finite_loss()
                estimates[metric.name] = measurement.value(self._prepared(metric, told))
            except Exception as error:
                errors[metric.name] = _words(error)
        definitions = ", ".join(
            f"{m.definition} {estimates[m.name].kind}" for m in self._metrics if m.name in estimates
        )
        rate = None if state is None else state.learning_rate
        threshold = state.threshold if state is not None and rate else None  # there is none where nothing moves
        return Found(loss, estimates, errors, rate, threshold, f"{definitions}; {measurement.conditions}")

    def nothing(self, error: Exception) -> Found:
        """Return the words of an error in the place of all values."""
        return Found(float("nan"), {}, dict.fromkeys((metric.name for metric in self._metrics), _words(error)))

    def _prepared(self, metric: Metric[...], optimizer: Any) -> Metric[...]:
        """The metric with the optimizer and the last eigenvector, if it has options for them."""
        given = {} if optimizer is None else {"optimizer": optimizer}
        given |= {"start": self._starts[metric.name]} if metric.name in self._starts else {}
        options = {name: value for name, value in given.items() if name in metric.options}
        return metric.with_options(name=metric.name, **options) if options else metric


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _loss(measurement: Measurement) -> float:
    try:
        return measurement.loss
    except NonFiniteError:
        return float("nan")


def _state(oracle: CurvatureOracle, optimizer: Any) -> tuple[OptimizerState | None, Any]:
    """The state of the optimizer, if it can be read, and what metrics get: the state, or what was given, of which they say what is wrong."""
    if optimizer is None or isinstance(optimizer, OptimizerState):
        return optimizer, optimizer
    try:
        state = optimizer_state(oracle, optimizer)
    except InvariantSharpnessError:
        return None, optimizer
    return state, state
