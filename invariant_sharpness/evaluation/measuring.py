"""Measure an oracle with several metrics in one go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.estimators.diagonals import HessianDiagonal
from invariant_sharpness.estimators.exact_diagonal import exact_diagonal, hessian_diagonal
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.metrics import METRICS, Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate

OwnMetric = Callable[[CurvatureOracle], Estimate]
"""A metric that the library does not know."""


def measure(
    oracle: CurvatureOracle,
    metrics: str | Iterable[str | OwnMetric] | None = None,
    *,
    seed: int = 0,
    probes: int = 64,
) -> Report:
    """Measure ``oracle`` and return a report that prints as a table.

    Metrics that need the diagonal of the Hessian share one: that of the weights, and of all other groups where it is
    exact. Each value is the one that the metric gives by itself.

    Parameters
    ----------
    oracle
        From :func:`invariant_sharpness.oracle`, or any object with its methods.
    metrics
        A name (see :data:`invariant_sharpness.METRICS`), or a list of names and callables ``oracle -> Estimate``. Default: all that
        are not marked as costly.
    seed
        The same seed gives the same numbers, on every framework.
    probes
        Hessian-vector products for each quantity that has to be sampled.

    Raises
    ------
    ValueError
        If a name is not known (lists the names there are), or two metrics have the same name.
    TypeError
        If a callable does not return an :class:`Estimate`.
    NonFiniteError
        If the loss is not finite.
    """
    chosen = [_resolve(metric) for metric in _asked_for(metrics)]
    started = time.perf_counter()
    loss = oracle.loss(oracle.parameters)
    if not abs(loss) < float("inf"):
        msg = f"the mean loss is {loss}: there is no curvature to measure at a point where it is not finite"
        raise NonFiniteError(msg)
    shared = _shared_diagonal(oracle, chosen, probes, seed)
    estimates = [_evaluate(metric, oracle, shared, probes, seed) for metric in chosen]
    return Report(
        estimates=_by_name(estimates),
        invariances={m.name: m.invariances for m in chosen if isinstance(m, Metric)},
        loss=loss,
        parameters=sum(group.size for group in oracle.groups),
        groups=len(oracle.groups),
        oracle=type(oracle).__name__,
        seed=seed,
        seconds=time.perf_counter() - started,
    )


def _asked_for(metrics: str | Iterable[str | OwnMetric] | None) -> Iterable[str | OwnMetric]:
    if metrics is None:
        return [name for name, metric in METRICS.items() if metric.default]
    return [metrics] if isinstance(metrics, str) else metrics


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
    weights = frozenset(group.name for group in oracle.groups if group.is_weight)
    known = exact_diagonal(oracle, seed=seed)
    return hessian_diagonal(oracle, names=weights, probes=probes, seed=seed, known=known)


def _evaluate(
    metric: Metric | OwnMetric,
    oracle: CurvatureOracle,
    diagonal: HessianDiagonal | None,
    probes: int,
    seed: int,
) -> Estimate:
    if not isinstance(metric, Metric):
        return _checked(metric, metric(oracle))
    available = {"diagonal": diagonal, "probes": probes, "seed": seed}
    return metric.function(oracle, **{name: value for name, value in available.items() if name in metric.options})


def _checked(metric: OwnMetric, returned: object) -> Estimate:
    if isinstance(returned, Estimate):
        return returned
    name = getattr(metric, "__name__", type(metric).__name__)
    msg = (
        f"metric {name!r} returned a {type(returned).__name__}, but a metric returns an Estimate, such as "
        f'Estimate(name={name!r}, value=..., method="exact")'
    )
    raise TypeError(msg)


def _by_name(estimates: list[Estimate]) -> dict[str, Estimate]:
    names = [estimate.name for estimate in estimates]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"two metrics have the name {', '.join(map(repr, twice))}: give each Estimate a name of its own"
        raise ValueError(msg)
    return dict(zip(names, estimates, strict=True))
