"""The decorator that makes a function ``oracle -> Estimate`` a metric."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import ParamSpec

from invariant_sharpness.metrics.declared import Metric
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.symmetries.invariances import Invariance

P = ParamSpec("P")


def metric(
    *,
    symbol: str,
    equation: str,
    summary: str,
    needs: str,
    cost: str,
    invariances: Collection[Invariance],
    pitfalls: str,
    reference: str,
    up_to_error: Collection[str] = (),
    default: bool = False,
    version: int = 1,
    invariances_with: Mapping[str, Mapping[str, Collection[Invariance]]] | None = None,
) -> Callable[[Callable[P, Estimate]], Metric[P]]:
    r"""Make a function ``oracle -> Estimate`` a metric, which carries its declaration.

    Parameters
    ----------
    symbol, equation, summary, needs, cost, invariances, pitfalls, reference, up_to_error, default, version, invariances_with
        As in :class:`Metric`.

    Returns
    -------
    Callable
        The decorator. What it returns is called as the function is.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> @ish.metrics.metric(
    ...     symbol="L", equation="L(\\theta)", summary="The loss.", needs="a loss", cost="a third of a gradient",
    ...     invariances={"linear"}, pitfalls="It is no sharpness.", reference="none",
    ... )
    ... def loss(oracle):
    ...     return ish.Estimate("loss", oracle.loss(oracle.parameters), "exact")
    >>> loss(quadratic(np.eye(1), np.array([[2.0]]))).value
    2.0
    >>> loss.invariances
    frozenset({'linear'})
    """

    def declared(function: Callable[P, Estimate]) -> Metric[P]:
        others = invariances_with or {}
        return Metric(
            name=function.__name__,
            function=function,
            symbol=symbol,
            equation=equation,
            summary=summary,
            needs=needs,
            cost=cost,
            invariances=frozenset(invariances),
            pitfalls=pitfalls,
            reference=reference,
            up_to_error=frozenset(up_to_error),
            default=default,
            version=version,
            invariances_with={o: {v: frozenset(own) for v, own in values.items()} for o, values in others.items()},
        )

    return declared
