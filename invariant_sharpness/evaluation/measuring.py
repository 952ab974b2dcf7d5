"""Measure an oracle with several metrics in one go."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from math import isclose, isfinite
from numbers import Integral
from typing import Any

from invariant_sharpness.arguments import check_numbers, require_oracle, require_seed
from invariant_sharpness.coordinates.gauss_newton import GaussNewton
from invariant_sharpness.errors import ArgumentError, InvariantSharpnessError, NonFiniteError
from invariant_sharpness.estimators.affine_groups import exact_diagonal, has_gauss_newton_diagonal, most_exact_outputs
from invariant_sharpness.estimators.diagonal_plan import is_large
from invariant_sharpness.estimators.diagonal_results import OF_AFFINE_GROUPS, HessianDiagonal
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.evaluation.conditions import Conditions
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.metrics import Metric, normalized_sharpness
from invariant_sharpness.metrics.counted_groups import listed
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonOracle,
    ResidualDiagonalOracle,
    capability,
)
from invariant_sharpness.results.estimate import Estimate

_SHOWN = 1e-6
"""What tables show of a number: exact values that differ by less are one number."""

Result = Estimate | InvariantSharpnessError
"""What comes of a measurement: a value, or the reason why there is none."""


def measure(
    oracle: CurvatureOracle,
    metrics: AnyMetric | Iterable[AnyMetric] | None = None,
    *,
    seed: int = 0,
    probes: int = 64,
    budget: float | None = None,
) -> Report:
    """Measure an oracle and return a report that prints as a table.

    Metrics that need the diagonal of the Hessian share one: that of the weights, and of all other groups where it is
    exact. Each value is the one that the metric gives by itself. Where the outputs are not affine in the weights, the default metrics show
    :func:`normalized_sharpness` of the :class:`GaussNewton` matrix as well, in a row of its own, if the two differ by more than their errors.

    Parameters
    ----------
    oracle
        From :func:`invariant_sharpness.oracle`, or any object with its methods.
    metrics
        A metric or a list of metrics: names (see :data:`invariant_sharpness.METRICS`), metrics such as
        ``ish.normalized_sharpness.with_options(biases="column")``, and callables ``oracle -> Estimate or number``, which get
        ``seed``, ``probes`` and ``diagonal`` if they have such keywords. Default: all that are not marked as costly.
    seed
        Seed of all draws. The same seed gives the same numbers, on every framework.
    probes
        Number of Hessian-vector products for each quantity that has to be sampled.
    budget
        What the diagonal of the Hessian may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`.

    Returns
    -------
    Report
        The estimates by name. Cost: that of the metrics, with one Hessian diagonal for all.

    Raises
    ------
    ArgumentError
        If a name is not known (lists the names there are), two estimates have the same name, or the seed or the number of
        probes is none.
    TypeError
        If one of the metrics is no metric, or a callable returns neither an :class:`Estimate` nor a number.
    NonFiniteError
        If the loss is not finite.

    Examples
    --------
    The trace of the Hessian diag(1, 2) is 3, and its largest eigenvalue 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> report = ish.measure(oracle, ["hessian_trace", ish.hessian_spectral_norm])
    >>> {name: round(estimate.value, 9) for name, estimate in report.items()}
    {'hessian_trace': 3.0, 'hessian_spectral_norm': 2.0}
    """
    return Measurement(oracle, seed=seed, probes=probes, budget=budget).report(
        as_metrics(metrics), default=metrics is None
    )


class Measurement:
    """An oracle, a seed and a number of probes, and what metrics share on them.

    Parameters
    ----------
    oracle, seed, probes, budget
        As in :func:`measure`.

    Raises
    ------
    ArgumentError
        If the seed or the number of probes is none.
    """

    def __init__(
        self, oracle: CurvatureOracle, *, seed: int = 0, probes: int = 64, budget: float | None = None
    ) -> None:
        require_oracle(oracle)
        require_seed(seed)
        if not isinstance(probes, Integral):  # how many are enough, each metric says itself
            require_probes(probes, 4)
        check_numbers(measure, {"budget": budget})
        self.oracle, self.seed, self.probes, self.budget = oracle, seed, probes, budget

    @cached_property
    def loss(self) -> float:
        """The mean loss."""
        return self.oracle.loss(self.oracle.parameters)

    @cached_property
    def conditions(self) -> Conditions:
        """What values depend on beside the model."""
        return Conditions.of(self.oracle, seed=self.seed, probes=self.probes, budget=self.budget)

    @cached_property
    def diagonal(self) -> HessianDiagonal:
        """The diagonal of the Hessian for the weights, and for all other groups where it is exact or costs no more, or all within a budget."""
        if self.budget is not None or is_large(self.oracle):
            return hessian_diagonal(self.oracle, probes=self.probes, budget=self.budget, seed=self.seed)
        weights = frozenset(group.name for group in self.oracle.groups if group.is_weight)
        most = most_exact_outputs(self.oracle, self.probes)
        known = exact_diagonal(self.oracle, seed=self.seed, most_outputs=most)
        names = weights | self._drawn_with(weights - known.groups.keys())
        return hessian_diagonal(self.oracle, parameters=names, probes=self.probes, seed=self.seed, diagonal=known)

    def _drawn_with(self, weights: frozenset[str]) -> frozenset[str]:
        """Return all groups of layers, which cost nothing beside the draws for the weights; none where these are few enough for columns."""
        able = capability(self.oracle, ResidualDiagonalOracle)
        few = sum(group.size for group in self.oracle.groups if group.name in weights) <= self.probes
        return frozenset() if able is None or few else frozenset(able.layer_units(self.oracle.parameters))

    @property
    def notes(self) -> tuple[str, ...]:
        """Which parameters of the model are not measured."""
        names = tuple(getattr(self.oracle, "left_out", ()))
        return (f"left out, and held where they are: {listed(names)}",) if names else ()

    def require_finite_loss(self) -> None:
        """Raise :class:`NonFiniteError` if there is no loss at this point."""
        if not isfinite(self.loss):
            msg = f"the mean loss is {self.loss}: there is no curvature to measure at a point where it is not finite"
            raise NonFiniteError(msg)

    def value(self, metric: Metric[...]) -> Estimate:
        """Measure with one metric, which gets of seed, probes and diagonal what it has keywords for."""
        shared = ("seed", "probes", "diagonal") if self.budget is None else ("seed", "probes", "budget", "diagonal")
        asked = [name for name in shared if name in metric.options]
        return metric(self.oracle, **{name: getattr(self, name) for name in asked})

    def report(self, metrics: Sequence[Metric[...]], *, default: bool = False) -> Report:
        """Measure with all of these metrics; with those that are measured by default, show (17) of the Gauss-Newton matrix as well."""
        started = time.perf_counter()
        self.require_finite_loss()
        measured = [(metric, self.value(metric)) for metric in metrics]
        definitions = ", ".join(f"{metric.definition} {value.kind}" for metric, value in measured)
        if default:
            measured = [pair for metric, value in measured for pair in self.beside(metric, value)]
        by_name = _by_name([estimate for _, estimate in measured])
        declared = {name: metric for name, (metric, _) in zip(by_name, measured, strict=True) if metric.is_declared}
        return Report(
            estimates=by_name,
            invariances={name: metric.invariances for name, metric in declared.items()},
            loss=self.loss,
            parameters=sum(group.size for group in self.oracle.groups),
            groups=len(self.oracle.groups),
            oracle=type(self.oracle).__name__,
            seed=self.seed,
            seconds=time.perf_counter() - started,
            versions={name: metric.version for name, metric in declared.items()},
            signature=f"{definitions}; {self.conditions}",
            conditions=self.conditions,
            notes=self.notes,
        )

    def beside(self, metric: Metric[...], value: Estimate) -> Iterator[tuple[Metric[...], Estimate]]:
        """Yield the value, and (17) of the Gauss-Newton matrix beside that of the Hessian where it is another number."""
        yield metric, value
        methods = {group.method for group in value.per_group.values()}
        if metric is not normalized_sharpness or methods <= OF_AFFINE_GROUPS:
            return
        if capability(self.oracle, GaussNewtonOracle) is None or not has_gauss_newton_diagonal(self.oracle):
            return
        known = self.diagonal.of_gauss_newton
        options: dict[str, Any] = {"seed": self.seed, "probes": self.probes, "budget": self.budget, "diagonal": known}
        other = metric(GaussNewton(self.oracle), **options)
        if not (isclose(value.value, other.value, rel_tol=_SHOWN) or _overlap(value.interval(), other.interval())):
            yield metric, replace(other, name=f"{value.name} (Gauss-Newton)")

    def result(self, metric: Metric[...]) -> Result:
        """Measure with one metric, or return the error that says why there is no value."""
        try:
            self.require_finite_loss()
            return self.value(metric)
        except InvariantSharpnessError as error:
            return error


def _overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return max(first[0], second[0]) <= min(first[1], second[1])


def _by_name(estimates: list[Estimate]) -> dict[str, Estimate]:
    names = [estimate.name for estimate in estimates]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"two metrics have the name {', '.join(map(repr, twice))}: give each Estimate a name of its own"
        raise ArgumentError(msg)
    return dict(zip(names, estimates, strict=True))
