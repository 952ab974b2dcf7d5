"""The one door for metrics: names, metrics, and functions of users, all made into :class:`Metric`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial, wraps
from typing import Any, cast, get_args

from invariant_sharpness.errors import ArgumentError, ArgumentTypeError
from invariant_sharpness.metrics import METRICS, Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.names import no_such_name
from invariant_sharpness.symmetries import Invariance

AnyMetric = str | Metric[...] | Callable[[CurvatureOracle], Any]
"""A name, a metric, or a callable that returns an Estimate or anything that is a number."""

Claims = frozenset[Invariance]

_INVARIANCES = get_args(Invariance)

_NO_CLAIMS: Mapping[str, Collection[str]] = {}


def as_metric(thing: AnyMetric, claims: Collection[str] | None = None) -> Metric[...]:
    """Make a metric of whatever can be measured.

    Parameters
    ----------
    thing
        The name of one of the library's metrics, a metric, or a callable ``oracle -> Estimate or number``. A metric of a
        framework's models, which ``model_metric`` of a backend makes, is such a callable.
    claims
        The invariances, in the words of the declarations. Default: those that the metric declares, and for others none.

    Returns
    -------
    Metric
        The metric itself where it is one. A callable gets ``seed``, ``probes`` and the shared ``diagonal`` if it has
        keywords of these names.

    Raises
    ------
    ArgumentError
        If there is no metric of that name, or no invariance of a word in the claims; lists those there are.
    ArgumentTypeError
        If it is neither a name nor a callable.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness.evaluation.door import as_metric
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> def largest_weight(oracle):
    ...     return max(float(abs(array).max()) for array in oracle.to_numpy(oracle.parameters).values())
    >>> as_metric(largest_weight)(oracle).value
    4.0
    >>> as_metric("hessian_trace")(oracle).value
    3.0
    """
    found = _found(thing)
    unknown = () if claims is None else [claims] if isinstance(claims, str) else set(claims) - set(_INVARIANCES)
    if unknown:
        msg = f"there is no invariance {', '.join(map(repr, sorted(unknown)))}; the words of the declarations are {', '.join(sorted(_INVARIANCES))}"
        raise ArgumentError(msg)
    return found if claims is None else replace(found, invariances=cast(Claims, frozenset(claims)), is_declared=True)


def as_metrics(
    metrics: AnyMetric | Iterable[AnyMetric] | None, claims: Mapping[str, Collection[str]] = _NO_CLAIMS
) -> list[Metric[...]]:
    """Make metrics of several things, as :func:`as_metric`; by default take all of the library that are not marked as costly.

    Raises
    ------
    ArgumentError
        If there is no metric of a name, or a claim is made for none of them.
    ArgumentTypeError
        If one of them is no metric.
    """
    if metrics is None:
        metrics = [metric for metric in METRICS.values() if metric.default]
    given = [metrics] if isinstance(metrics, str) or callable(metrics) else _listed(metrics)
    found = [as_metric(thing) for thing in given]
    if unknown := sorted(set(claims) - {metric.name for metric in found}):
        msg = f"there are claims for {', '.join(unknown)}, but the metrics are {', '.join(m.name for m in found)}"
        raise ArgumentError(msg)
    return [as_metric(metric, claims.get(metric.name)) for metric in found]


def require_different_names(metrics: Iterable[Metric[...]]) -> None:
    """Raise ``ArgumentError`` if two metrics have the same name."""
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        msg = (
            f"two metrics have the same name among {', '.join(names)}: give each callable a __name__ of its own, and each "
            f"configured metric a name, as in with_options(name=...)"
        )
        raise ArgumentError(msg)


def _found(thing: AnyMetric) -> Metric[...]:
    if isinstance(thing, Metric):
        return thing
    if isinstance(thing, str):
        return _by_name(thing)
    if isinstance(thing, partial) and isinstance(thing.func, Metric) and not thing.args:
        return thing.func.with_options(name=thing.func.name, **thing.keywords)
    if callable(thing):
        return _undeclared(thing)
    msg = (
        f"{thing!r} is of type {type(thing).__name__}, but a metric is a name such as 'hessian_trace', an object such as "
        f"invariant_sharpness.hessian_trace, or a callable oracle -> Estimate or number"
    )
    raise ArgumentTypeError(msg)


def _by_name(name: str) -> Metric[...]:
    if name not in METRICS:
        longer = [one.name for one in METRICS.values() if one.default and name in one.name] if name else []
        raise ArgumentError(no_such_name("metric", name, METRICS, likely=longer))
    return METRICS[name]


def _listed(metrics: Any) -> list[AnyMetric]:
    try:
        return list(metrics)
    except TypeError:
        return [metrics]


def _undeclared(function: Callable[..., Any]) -> Metric[...]:
    """Make a metric of a function of which nothing else is known."""
    name = getattr(function, "__name__", type(function).__name__)

    @wraps(function)
    def measured(oracle: CurvatureOracle, /, **options: Any) -> Estimate:
        return _estimate(function(oracle, **options), name)

    return Metric(
        name=name,
        function=measured,
        symbol="",
        equation="",
        summary="",
        needs="",
        cost="",
        invariances=frozenset(),
        pitfalls="",
        reference="",
        default=False,
        is_declared=False,
    )


def _estimate(returned: Any, name: str) -> Estimate:
    if isinstance(returned, Estimate):
        return returned
    try:
        if not isinstance(returned, str):
            return Estimate(name, float(returned), "its own")
    except (TypeError, ValueError):
        pass
    msg = (
        f"metric {name!r} returned a {type(returned).__name__}, but a metric returns a number or an Estimate, such as "
        f'Estimate(name={name!r}, value=..., method="exact")'
    )
    raise ArgumentTypeError(msg)
