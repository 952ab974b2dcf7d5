"""The harness: all statistics of all measures of a ledger, in the ledger as it is and in the resampled ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.arguments import check_numbers
from invariant_sharpness.errors import ArgumentError, DataError
from invariant_sharpness.evaluation.ranking.bootstrap import Interval, interval, resampled_counts
from invariant_sharpness.evaluation.ranking.columns import Columns, Table, as_number
from invariant_sharpness.evaluation.ranking.environments import (
    Environments,
    sign_error_90,
    sign_error_max,
    sign_error_mean,
)
from invariant_sharpness.evaluation.ranking.granulated import granulated_kendall, granulated_kendall_b, kendall_along
from invariant_sharpness.evaluation.ranking.information import conditional_mutual_information
from invariant_sharpness.evaluation.ranking.ledger import Indices, Ledger, Values, read_ledger
from invariant_sharpness.evaluation.ranking.result import STATISTICS, Ranking
from invariant_sharpness.evaluation.ranking.selection import fragility, selection_regret
from invariant_sharpness.evaluation.ranking.statistics import Counts, Statistic, kendall
from invariant_sharpness.results.names import no_such_name

LEVEL = 0.95

_SMALLEST_LEDGER = 3
"""Networks with a finite measure, fewer than which have no order worth a statistic."""


class _Prepared(NamedTuple):
    """The statistics of the networks that some measures share: those with finite values."""

    ledger: Ledger
    counts: Counts
    statistics: Mapping[str, Statistic]
    along: Mapping[str, Statistic]
    environments: Environments


class _Ranked(NamedTuple):
    """What is found of one measure."""

    statistics: dict[str, Interval]
    along: dict[str, Interval]
    resampled: dict[str, Values]
    sign_errors: Values


def rank(
    ledger: Table,
    measures: Sequence[str] | None = None,
    *,
    gap: str = "gap",
    hyperparameters: Sequence[str],
    repeats: str | None = "seed",
    test_error: str | None = None,
    smallest_environment: float = 12,
    test_examples: int = 10_000,
    resamples: int = 500,
    seed: int = 0,
) -> Ranking:
    r"""Rank measures by how well they order the generalization gaps of trained networks.

    For each measure :math:`\mu` and gap g, which a good measure orders alike (the larger the worse; negate a measure such as a margin):

    - ``kendall``: :math:`\tau_b` over all pairs of networks;
    - ``granulated_kendall``: :math:`\Psi = \frac1n \sum_i \psi_i`, where :math:`\psi_i` is the mean of :math:`\tau_a` over the cells in which
      hyperparameter i alone varies (Jiang et al. 2020), and ``granulated_kendall_b`` with :math:`\tau_b`, which leaves out cells in which the
      measure is constant;
    - ``conditional_mutual_information``: the minimum over at most two known hyperparameters S of
      :math:`I(V_\mu; V_g \mid U_S) / H(V_g \mid U_S)` (Jiang et al. 2020);
    - ``sign_error_mean``, ``sign_error_90``, ``sign_error_max``: over environments, pairs of configurations that differ in exactly one
      hyperparameter (Dziugaite et al. 2020);
    - ``selection_regret``: :math:`(g_{t^*} - \min g) / (\max g - \min g)`, where :math:`t^*` has the smallest measure;
    - ``fragility``: the spread of the ranks of the measure within ten bins of equal test error, over that in all networks.

    Intervals of 95 % are percentiles of ledgers in which configurations are drawn with replacement. They say how much the statistics would
    differ on other configurations of the same kind: in 200 simulated ledgers of 48 configurations without effects of single hyperparameters they
    held the truth in 95 to 98 % (regret and fragility 90 %); where hyperparameters have strong effects they are wider than need be. That of the largest sign error is one-sided, and the mutual information is biased upwards
    where few pairs share what is known: it compares measures on one ledger, and no two ledgers.

    Parameters
    ----------
    ledger
        One row for each trained network: a data frame, a dictionary of columns, a list of dictionaries, or the path of a ``.csv``, ``.json`` or
        ``.jsonl`` file (also ``.gz``).
    measures
        Columns to rank. Default: all columns of numbers that have no other part.
    gap
        Column of the generalization gap, a difference of error rates (the sign errors take it for one).
    hyperparameters
        Columns that make the configuration. Values that agree to twelve digits are the same.
    repeats
        Column that tells networks of one configuration apart, such as the seed; None if nothing does.
    test_error
        Column of the test error, for ``fragility``; default: the gap.
    smallest_environment
        Smallest effective number of pairs of networks in an environment: with r repeats there are at most r^2.
    test_examples
        Number of examples that the gaps were measured on.
    resamples
        Number of resampled ledgers.
    seed
        Seed of the resampling.

    Returns
    -------
    Ranking
        A mapping from measures to statistics with intervals; prints tables, makes frames, JSON, CSV and pictures.

    Raises
    ------
    DataError
        If the ledger cannot be read, lacks a column, has one configuration, gaps that are no numbers, or duplicate rows.
    ArgumentError
        If there is nothing to rank, or a number is outside of its range.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> grid = [(lr, width) for lr in (1, 2, 3) for width in (10, 20)]
    >>> ledger = [{"lr": lr, "width": w, "seed": 0, "gap": lr / 10, "good": lr, "bad": -lr} for lr, w in grid]
    >>> ranking = ish.rank(ledger, ["good", "bad"], hyperparameters=["lr", "width"])
    >>> ranking["good"]["kendall"].value, ranking["bad"]["kendall"].value
    (1.0, -1.0)
    """
    numbers = {"smallest_environment": smallest_environment, "test_examples": test_examples}
    check_numbers(rank, {**numbers, "resamples": resamples, "seed": seed})
    whole, columns = read_ledger(
        ledger, gap=gap, hyperparameters=hyperparameters, repeats=repeats, test_error=test_error
    )
    taken = [gap, *hyperparameters, *filter(None, (repeats, test_error))]
    found = _measures(columns, measures, taken, whole.rows)
    counts = resampled_counts(whole.num_configurations, resamples, seed)
    ranks = _rank_all(whole, found, counts, test_examples, smallest_environment)
    all_networks = Environments(whole, test_examples, smallest_environment)
    colors = [columns[hyperparameters[0]][row] for row in whole.rows]
    return Ranking(
        {name: of.statistics for name, of in ranks.items()},
        {name: of.along for name, of in ranks.items()},
        {name: of.resampled for name, of in ranks.items()},
        {name: of.sign_errors for name, of in ranks.items()},
        {name: (values, whole.gaps, colors) for name, values in found.items()},
        networks=len(whole.gaps),
        configurations=whole.num_configurations,
        environments=len(all_networks.kept[0]),
        level=LEVEL,
        notes=[*whole.notes(), *_environment_notes(all_networks), *_measure_notes(found)],
    )


def _measures(columns: Columns, names: Sequence[str] | None, taken: Sequence[str], rows: Indices) -> dict[str, Values]:
    """Return the columns of the measures in the order of the ledger, NaN where there is no number."""
    if isinstance(names, str):
        names = [names]
    chosen = [name for name in columns if name not in taken and _is_numeric(columns[name])] if names is None else names
    if not chosen:
        msg = f"there is no measure to rank: the columns are {', '.join(columns)}, of which {', '.join(taken)} have another part"
        raise ArgumentError(msg)
    for name in chosen:
        if name not in columns:
            raise DataError(no_such_name("column", name, list(columns), "in the ledger"))
        if not _is_numeric(columns[name]):
            text = next(value for value in columns[name] if as_number(value) is None)
            msg = f"the measure {name} has {text!r} in it, but it has to be a column of numbers"
            raise DataError(msg)
    return {name: np.asarray([as_number(columns[name][row]) for row in rows], dtype=np.float64) for name in chosen}


def _is_numeric(column: Sequence[Any]) -> bool:
    return all(as_number(value) is not None for value in column)


def _rank_all(
    whole: Ledger, found: Mapping[str, Values], counts: Counts, test_examples: int, smallest_environment: float
) -> dict[str, _Ranked]:
    """Rank every measure over the networks where it is finite; those that share their networks share what is prepared."""
    prepared: dict[bytes, _Prepared] = {}
    ranks = {}
    for name, values in found.items():
        kept = np.isfinite(values)
        if kept.sum() < _SMALLEST_LEDGER:
            ranks[name] = _undefined(whole, len(counts))
            continue
        key = kept.tobytes()
        if key not in prepared:
            prepared[key] = _prepare(whole, kept, counts, test_examples, smallest_environment)
        ranks[name] = _rank_one(prepared[key], values[kept])
    return ranks


def _prepare(
    whole: Ledger, kept: npt.NDArray[np.bool_], counts: Counts, test_examples: int, smallest_environment: float
) -> _Prepared:
    ledger, numbers = whole.where(kept)
    environments = Environments(ledger, test_examples, smallest_environment)
    statistics = {
        "kendall": kendall(ledger),
        "granulated_kendall": granulated_kendall(ledger),
        "granulated_kendall_b": granulated_kendall_b(ledger),
        "conditional_mutual_information": conditional_mutual_information(ledger),
        "sign_error_mean": sign_error_mean(environments),
        "sign_error_90": sign_error_90(environments),
        "sign_error_max": sign_error_max(environments),
        "selection_regret": selection_regret(ledger),
        "fragility": fragility(ledger),
    }
    along = {name: kendall_along(ledger, number) for number, name in enumerate(ledger.hyperparameters)}
    return _Prepared(ledger, counts[:, numbers], statistics, along, environments)


def _rank_one(prepared: _Prepared, measure: Values) -> _Ranked:
    as_it_is = np.ones((1, prepared.ledger.num_configurations))
    counts = np.concatenate([as_it_is, prepared.counts])
    resampled: dict[str, Values] = {}

    def statistic_of(name: str, statistic: Statistic) -> Interval:
        value, *draws = statistic(measure, counts)
        resampled[name] = np.asarray(draws)
        return interval(float(value), resampled[name], LEVEL)

    statistics = {name: statistic_of(name, statistic) for name, statistic in prepared.statistics.items()}
    along = {name: statistic_of(f"psi_{name}", statistic) for name, statistic in prepared.along.items()}
    return _Ranked(statistics, along, resampled, prepared.environments.losses(measure))


def _undefined(ledger: Ledger, resamples: int) -> _Ranked:
    """What is found of a measure that has too few finite values."""
    nothing, draws = Interval(float("nan"), float("nan"), float("nan")), np.full(resamples, np.nan)
    return _Ranked(
        dict.fromkeys(STATISTICS, nothing),
        dict.fromkeys(ledger.hyperparameters, nothing),
        dict.fromkeys(STATISTICS, draws),
        np.empty(0),
    )


def _environment_notes(environments: Environments) -> list[str]:
    """Say where the sign errors have nothing to stand on."""
    notes = []
    gaps = environments.ledger.gaps
    if not len(environments.kept[0]):
        words = (
            f"no environment has {environments.smallest:g} effective pairs of networks whose gaps differ by more than "
            f"{environments.test_examples} test examples explain: the sign errors are not defined; with r repeats there are at most r^2 pairs"
        )
        notes.append(words)
    if np.abs(gaps).max() > 1:
        notes.append(
            "gaps beyond 1 are no differences of error rates, for which the weights of the sign errors are derived"
        )
    return notes


def _measure_notes(found: Mapping[str, Values]) -> list[str]:
    """Say which measures have no order, or are ranked on a part of the networks."""
    notes = []
    for name, values in found.items():
        finite = values[np.isfinite(values)]
        missing = len(values) - len(finite)
        if missing:
            notes.append(
                f"{name}: {missing} of {len(values)} networks have no finite value; its statistics are those of the others"
            )
        if len(finite) < _SMALLEST_LEDGER:
            notes.append(f"{name}: {len(finite)} finite values have no order that could be ranked")
        elif len(np.unique(finite)) == 1:
            notes.append(f"{name} has one value in all networks: it orders nothing")
    return notes
