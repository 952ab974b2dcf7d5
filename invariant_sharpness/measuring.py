"""Measure an oracle with several metrics in one go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.diagonal import HessianDiagonal, hessian_diagonal
from invariant_sharpness.metrics import METRICS, Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.report import Report

OwnMetric = Callable[[CurvatureOracle], Estimate]
"""A metric that the library does not know."""


def measure(
    oracle: CurvatureOracle,
    metrics: Iterable[str | OwnMetric] | None = None,
    *,
    seed: int = 0,
    probes: int = 64,
) -> Report:
    """Measure ``oracle`` and return a report that prints as a table.

    Metrics that need the diagonal of the Hessian share one.

    Parameters
    ----------
    oracle
        From :func:`invariant_sharpness.oracle`, or any object with its methods.
    metrics
        Names (see :data:`invariant_sharpness.METRICS`) or callables ``oracle -> Estimate``. Default: all that are not marked as
        costly.
    seed
        The same seed gives the same numbers, on every framework.
    probes
        Hessian-vector products for each quantity that has to be sampled.

    Raises
    ------
    ValueError
        If a name is not known; lists the names there are.
    NonFiniteError
        If the loss is not finite.
    """
    chosen = [_resolve(metric) for metric in (_default_names() if metrics is None else metrics)]
    started = time.perf_counter()
    loss = oracle.loss(oracle.parameters)
    if not abs(loss) < float("inf"):
        msg = f"the mean loss is {loss}: there is no curvature to measure at a point where it is not finite"
        raise NonFiniteError(msg)
    shared = _shared_diagonal(oracle, chosen, probes, seed)
    estimates = [_evaluate(metric, oracle, shared, probes, seed) for metric in chosen]
    return Report(
        estimates={estimate.name: estimate for estimate in estimates},
        invariances={m.name: m.invariances for m in chosen if isinstance(m, Metric)},
        loss=loss,
        parameters=sum(group.size for group in oracle.groups),
        groups=len(oracle.groups),
        oracle=type(oracle).__name__,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _default_names() -> list[str]:
    return [name for name, metric in METRICS.items() if metric.default]


def _resolve(metric: str | OwnMetric) -> Metric | OwnMetric:
    if not isinstance(metric, str):
        return metric
    if metric not in METRICS:
        msg = f"there is no metric {metric!r}; the metrics are {', '.join(METRICS)}"
        raise ValueError(msg)
    return METRICS[metric]


def _shared_diagonal(
    oracle: CurvatureOracle, metrics: list[Metric | OwnMetric], probes: int, seed: int
) -> HessianDiagonal | None:
    if not any(isinstance(metric, Metric) and "diagonal" in metric.options for metric in metrics):
        return None
    return hessian_diagonal(oracle, probes=probes, seed=seed)


def _evaluate(
    metric: Metric | OwnMetric,
    oracle: CurvatureOracle,
    diagonal: HessianDiagonal | None,
    probes: int,
    seed: int,
) -> Estimate:
    if not isinstance(metric, Metric):
        return metric(oracle)
    available = {"diagonal": diagonal, "probes": probes, "seed": seed}
    return metric.function(oracle, **{name: value for name, value in available.items() if name in metric.options})
