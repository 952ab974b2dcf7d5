"""Measure several models alike, and compare the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from invariant_sharpness.errors import ArgumentError, ArgumentTypeError
from invariant_sharpness.evaluation.comparability import (
    other_conditions,
    other_methods,
    other_models,
    require_comparable,
)
from invariant_sharpness.evaluation.comparison import Comparison
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics
from invariant_sharpness.evaluation.measuring import Measurement
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.progress import track


def compare(
    oracles: Mapping[str, CurvatureOracle],
    metrics: AnyMetric | Iterable[AnyMetric] | None = None,
    *,
    seed: int = 0,
    probes: int = 64,
    budget: float | None = None,
) -> Comparison:
    r"""Measure several models, such as checkpoints, and say which differences exceed the errors.

    .. math:: b - a \;\pm\; t_{0.975} \sqrt{s_a^2 + s_b^2}

    is the interval of the difference to the first model; brackets, relative gaps and rounding widen it. Every number is the one that :func:`measure`
    gives for the model alone, bit by bit. The same seed probes all models along the same random vectors, which cancels a part of the sampling
    error; the interval counts the errors as independent.

    Parameters
    ----------
    oracles
        Two oracles or more, by the names of the models. The others are compared with the first.
    metrics, seed, probes, budget
        As in :func:`measure`.

    Returns
    -------
    Comparison
        A mapping of names to reports. It prints as one table. Cost: that of :func:`measure` for each model, and no more memory than for one.

    Raises
    ------
    ComparisonError
        If the models have other losses, other numbers of outputs or other coordinates, before anything is measured.
    ArgumentError
        If there are fewer than two oracles, or something is wrong with metrics, seed, probes or budget.
    ArgumentTypeError
        If the oracles have no names.
    ModelError
        If one of them is no oracle.

    See Also
    --------
    invariant_sharpness.measure : One model.

    Examples
    --------
    The trace of the Hessian is 3 for one model and 6 for the other:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> data = np.array([[1.0, 1.0]]), np.array([[0.0]])
    >>> oracles = {
    ...     name: ish.oracle(ReluNetwork((np.array([[w, w]]),)), data, loss="mse") for name, w in (("flat", 1.0), ("sharp", 2.0))
    ... }
    >>> comparison = ish.compare(oracles, ["hessian_trace", "normalized_sharpness"])
    >>> {name: round(comparison["sharp"][name].value / comparison["flat"][name].value, 9) for name in comparison.metrics}
    {'hessian_trace': 1.0, 'normalized_sharpness': 2.0}
    >>> comparison.difference("normalized_sharpness", "sharp").verdict
    'beyond error'
    """
    chosen = as_metrics(metrics)
    measurements = {
        name: Measurement(oracle, seed=seed, probes=probes, budget=budget) for name, oracle in _named(oracles).items()
    }
    conditions = {name: one.conditions for name, one in measurements.items()}
    require_comparable(conditions)
    warnings = [*other_conditions(conditions), *other_models(oracles)]
    reports: dict[str, Report] = {}
    for name in track(list(measurements), "models", len(measurements)):
        # A measurement holds the diagonal of its model: let go of it before the next one is measured.
        reports[name] = measurements.pop(name).report(chosen, default=metrics is None)
    comparison = Comparison(reports)
    for metric in comparison.metrics:
        warnings += other_methods(metric, comparison.estimates(metric))
    return Comparison(reports, tuple(warnings))


def _named(oracles: Mapping[str, CurvatureOracle]) -> Mapping[str, CurvatureOracle]:
    if not isinstance(oracles, Mapping) or not all(isinstance(name, str) for name in oracles):
        msg = f"compare takes a dictionary of oracles by name, as in {{'before': oracle1, 'after': oracle2}}, but it was given a {type(oracles).__name__}"
        raise ArgumentTypeError(msg)
    if len(oracles) < 2:
        msg = f"there {'is one oracle' if oracles else 'are no oracles'} to compare: give at least two, by name"
        raise ArgumentError(msg)
    return oracles
