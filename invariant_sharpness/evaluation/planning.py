"""What a measurement will cost, said before it runs."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.evaluation.call_costs import Account, CallCosts
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics
from invariant_sharpness.evaluation.measuring import Measurement
from invariant_sharpness.evaluation.rehearsal import Rehearsal
from invariant_sharpness.metrics import Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.export import plain_text
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import table_html
from invariant_sharpness.runtime.memory import vector_size

_DIAGONAL = "the diagonal that they share"
_SPREADS = 0.0, 1.0
"""Powers of ten over which the curvatures are spread: what iterates takes the fewest steps where all are equal, and many in a dense bulk."""

_SURE = 1.5
"""Costs that differ by no more than this factor on the two are known."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part of a measurement costs.

    Parameters
    ----------
    least, most
        In gradients of all the data.
    memory
        Bytes of vectors and arrays on top of the model, its data, and the activations of a piece of a batch, at most at one time.
    arithmetic
        Seconds of arithmetic beside the passes over the data.
    why
        Why nothing is known of it, in words; empty where the cost is known.
    """

    least: float
    most: float
    memory: int
    arithmetic: float
    why: str = ""

    @property
    def gradients(self) -> float | None:
        """The cost in gradients; None where it is not known before."""
        return None if self.why or self.most > _SURE * self.least else (self.least * self.most) ** 0.5

    @property
    def words(self) -> str:
        """The gradients, in words."""
        if self.why:
            return f"unknown: {self.why}"
        if self.gradients is None:
            return f"unknown, {self.least:.0f} to {self.most:.0f}: it goes on until it converges"
        return f"{self.gradients:.3g}"


@dataclass(frozen=True, slots=True)
class MeasurementPlan(Mapping[str, Cost]):
    """What :func:`invariant_sharpness.plan` returns: a mapping from the names of metrics to costs, which prints as a table.

    Parameters
    ----------
    costs
        By name; the diagonal that several metrics share has a cost of its own.
    seconds_per_gradient
        As one gradient has taken.
    vector_bytes
        Bytes of a vector of parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> plan = ish.plan(quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]])), "hessian_trace")
    >>> list(plan), plan.vector_bytes
    (['the loss', 'the diagonal that they share', 'hessian_trace'], 16)
    """

    costs: Mapping[str, Cost]
    seconds_per_gradient: float
    vector_bytes: int

    def __getitem__(self, name: str) -> Cost:
        return ByName(self.costs, "metric", "in this plan")[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.costs)

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def gradients(self) -> float | None:
        """All gradients together; None where one of the costs is not known."""
        known = [cost.gradients for cost in self.costs.values() if cost.gradients is not None]
        return sum(known) if len(known) == len(self.costs) else None

    @property
    def minutes(self) -> float | None:
        """How long it will take, on this machine as busy as it is now; None where a cost is not known."""
        if self.gradients is None:
            return None
        return (self.gradients * self.seconds_per_gradient + sum(c.arithmetic for c in self.costs.values())) / 60

    @property
    def memory(self) -> int:
        """Bytes beside the model, its data and the activations of a piece of a batch, at most at one time."""
        return max((cost.memory for cost in self.costs.values()), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries; None for what is not known."""
        costs = {
            name: {"gradients": c.gradients, "least": c.least, "most": c.most, "memory": c.memory, "why": c.why}
            for name, c in self.costs.items()
        }
        return {"gradients": self.gradients, "minutes": self.minutes, "memory": self.memory, "costs": costs}

    def table(self) -> Table:
        """Make a :mod:`rich` table of the plan."""
        table = Table(title=f"a gradient takes {self.seconds_per_gradient:.3g} s", title_justify="left")
        table.add_column("what", no_wrap=True)
        table.add_column("gradients")
        table.add_column("minutes", justify="right")
        table.add_column("memory, in vectors of parameters", justify="right")
        for name, cost in self.costs.items():
            table.add_row(name, cost.words, _minutes(self._minutes_of(cost)), self._copies(cost.memory))
        known = "unknown" if self.gradients is None else f"{self.gradients:.3g}"
        table.add_section()
        table.add_row("together", known, _minutes(self.minutes), self._copies(self.memory))
        table.caption = "memory is on top of the model and of the activations of a piece, which memory_limit bounds"
        return table

    def __str__(self) -> str:
        return plain_text(self.table())

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        return table_html(self.table())

    def _minutes_of(self, cost: Cost) -> float | None:
        return None if cost.gradients is None else (cost.gradients * self.seconds_per_gradient + cost.arithmetic) / 60

    def _copies(self, memory: int) -> str:
        return f"{memory / self.vector_bytes:.1f} ({memory / 2**20:.3g} MiB)"


def plan(
    oracle: CurvatureOracle,
    metrics: AnyMetric | Iterable[AnyMetric] | None = None,
    *,
    seed: int = 0,
    probes: int = 64,
    budget: float | None = None,
) -> MeasurementPlan:
    r"""Say what :func:`measure` will cost with the same arguments, before it runs.

    Each metric is rehearsed on a stand-in for the oracle with the same parameter groups, :math:`L(\phi) = L_0 + g^T \delta + \tfrac12 \sum_i h_i \delta_i^2`, which
    counts what it is asked for. What decides the way is asked of the oracle itself, and so is what a call of each kind costs. What iterates until it converges depends on a spectrum that nobody
    knows before: its cost is said to be unknown, with what it takes where all curvatures are equal, and where they lie densely over one power of ten.

    Parameters
    ----------
    oracle, metrics, seed, probes, budget
        As in :func:`measure`.

    Returns
    -------
    MeasurementPlan
        Gradients, minutes and bytes, by metric. Minutes are those of this machine, as busy as it is, without what is compiled at first.
        Cost: a loss, three gradients, the affine test, each kind of call twice on a sixteenth of the examples, or on 32, and the arithmetic
        of the metrics twice, on the host. Memory: six vectors, and what the metrics hold.

    Raises
    ------
    ArgumentError, ModelError
        As :func:`measure`.

    Notes
    -----
    Invariances: the plan is the same for a rescaled network. Source: this library.

    Examples
    --------
    Two columns of the Hessian cost less than 64 probes, and how much is known before:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> plan = ish.plan(quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]])), "hessian_trace")
    >>> plan["the diagonal that they share"].gradients > 0
    True
    """
    chosen = as_metrics(metrics)
    Measurement(oracle, seed=seed, probes=probes, budget=budget)  # which refuses what is no oracle, seed or budget
    call_costs, account = CallCosts(oracle), Account()
    stand_ins = [Rehearsal(oracle, powers, account) for powers in _SPREADS]
    equal, spread = (
        _rehearsed(Measurement(one, seed=seed, probes=probes, budget=budget), chosen, account, call_costs)
        for one in stand_ins
    )
    costs = {name: _both(cost, spread[name]) for name, cost in equal.items()}
    return MeasurementPlan(costs, call_costs.seconds_per_gradient, vector_size(oracle))


def _rehearsed(
    measurement: Measurement, chosen: Iterable[Metric[...]], account: Account, call_costs: CallCosts
) -> dict[str, Cost]:
    """Rehearse all metrics in turn, as :func:`measure` takes them."""
    stand_in, metrics = measurement.oracle, list(chosen)
    parts: dict[str, Callable[[], object]] = {"the loss": lambda: stand_in.loss(stand_in.parameters)}
    if any("diagonal" in metric.options for metric in metrics):
        parts[_DIAGONAL] = lambda: measurement.diagonal
    parts |= {metric.name: partial(measurement.value, metric) for metric in metrics}
    return {name: _cost(account, part, call_costs) for name, part in parts.items()}


def _cost(account: Account, part: Callable[[], object], call_costs: CallCosts) -> Cost:
    """What a part of the measurement asks for, and holds."""
    before, waited, started, why = dict(account.passes), account.waited, time.perf_counter(), ""
    with _traced() as peak:
        try:
            part()
        except InvariantSharpnessError as error:
            why = str(error)
        memory = peak()
    arithmetic = time.perf_counter() - started - (account.waited - waited)
    gradients = call_costs.gradients(account.passes_since(before), account.calls)
    return Cost(gradients, gradients, memory, arithmetic, why)


@contextmanager
def _traced() -> Generator[Callable[[], int]]:
    """Yield what tells the bytes of the arrays that were made in the block and alive at one time."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _both(one: Cost, other: Cost) -> Cost:
    least, most = sorted((one.least, other.least))
    return Cost(least, most, max(one.memory, other.memory), max(one.arithmetic, other.arithmetic), one.why or other.why)


def _minutes(minutes: float | None) -> str:
    return "unknown" if minutes is None else f"{minutes:.2g}"
