"""Every statistic is what its definition says, on random ledgers: with ties, with gaps in the grid, and as others compute it."""

from __future__ import annotations

from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

import invariant_sharpness as ish
from zoo.ledgers import NAMES, Row, information, psi, random_ledger, sign_errors, tau

LEDGERS = [
    pytest.param(random_ledger(0), id="full grid"),
    pytest.param(random_ledger(1, ties=True), id="ties"),
    pytest.param(random_ledger(2, kept=0.7), id="gaps in the grid"),
    pytest.param(random_ledger(3, repeats=1), id="one repeat"),
    pytest.param(random_ledger(4, ties=True, kept=0.6), id="ties and gaps"),
]


def statistics(rows: list[Row], **options: float) -> dict[str, float]:
    ranking = ish.rank(rows, ["mu"], hyperparameters=NAMES, resamples=2, **options)  # type: ignore[arg-type]
    return {name: found.value for name, found in ranking["mu"].items()}


@pytest.mark.parametrize("rows", LEDGERS)
def test_kendall_over_all_pairs(rows: list[Row]) -> None:
    found = statistics(rows)["kendall"]
    assert found == pytest.approx(tau(rows, tied=True), abs=1e-12)
    assert found == pytest.approx(
        kendalltau([row["mu"] for row in rows], [row["gap"] for row in rows]).statistic, abs=1e-12
    )


@pytest.mark.parametrize("rows", LEDGERS)
def test_granulated_kendall(rows: list[Row]) -> None:
    found = statistics(rows)
    expected = psi(rows, tied=False), psi(rows, tied=True)
    assert (found["granulated_kendall"], found["granulated_kendall_b"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rows", LEDGERS)
def test_conditional_mutual_information(rows: list[Row]) -> None:
    assert statistics(rows)["conditional_mutual_information"] == pytest.approx(information(rows), abs=1e-12)


@pytest.mark.parametrize("rows", LEDGERS)
def test_sign_errors(rows: list[Row]) -> None:
    found = statistics(rows, smallest_environment=1.9, test_examples=5_000)
    losses = sign_errors(rows, smallest=1.9, test_examples=5_000)
    if not losses:
        assert isnan(found["sign_error_mean"]), found
        return
    expected = np.mean(losses), np.percentile(losses, 90), max(losses)
    values = tuple(found[f"sign_error_{kind}"] for kind in ("mean", "90", "max"))
    assert values == pytest.approx(expected, abs=1e-12), f"{len(losses)} environments"


@pytest.mark.parametrize("rows", LEDGERS)
def test_regret_of_the_network_with_the_smallest_measure(rows: list[Row]) -> None:
    gaps, smallest = [row["gap"] for row in rows], min(row["mu"] for row in rows)
    picked = np.mean([row["gap"] for row in rows if row["mu"] == smallest])
    expected = (picked - min(gaps)) / (max(gaps) - min(gaps))
    assert statistics(rows)["selection_regret"] == pytest.approx(expected, abs=1e-12)


def test_fragility_is_the_spread_of_ranks_within_bins() -> None:
    """Twenty networks, two to a bin of test error: within-bin variance by NumPy, over that of all ranks."""
    measure = [3, 1, 4, 1.5, 9, 2.6, 5, 3.5, 8, 9.7, 9.3, 2, 3.8, 4.6, 2.64, 3.3, 8.3, 2.7, 9.5, 0.2]
    rows = [{"lr": number, "seed": 0, "gap": number / 100, "mu": value} for number, value in enumerate(measure)]
    ranking = ish.rank(rows, ["mu"], hyperparameters=["lr"], resamples=2)
    ranks = pd.Series(measure).rank().to_numpy()
    within = np.mean([np.var(ranks[start : start + 2], ddof=1) for start in range(0, 20, 2)])
    assert ranking["mu"]["fragility"].value == pytest.approx(np.sqrt(within / np.var(ranks, ddof=1)), abs=1e-12)


def test_the_bootstrap_counts_copies_as_networks() -> None:
    """Tau of a resampled ledger is that of a table with repeated rows, in which a row and its copies make no pair."""
    rows = random_ledger(5)
    ranking = ish.rank(rows, ["mu"], hyperparameters=NAMES, resamples=3, seed=7)
    keys = sorted({tuple(str(row[name]) for name in NAMES) for row in rows})
    generator = np.random.Generator(np.random.Philox(key=[7, 2**45]))
    counts = generator.multinomial(len(keys), np.full(len(keys), 1 / len(keys)), size=3)
    for found, often in zip(ranking.resampled["mu"]["kendall"], counts, strict=True):
        times = dict(zip(keys, often, strict=True))
        copies = [(row, copy) for row in rows for copy in range(times[tuple(str(row[name]) for name in NAMES)])]
        pairs = [(a, b) for a, _ in copies for b, _ in copies if a is not b]
        signs = [(np.sign(a["mu"] - b["mu"]), np.sign(a["gap"] - b["gap"])) for a, b in pairs]
        size = np.sqrt(sum(s != 0 for s, _ in signs) * sum(g != 0 for _, g in signs))
        assert found == pytest.approx(sum(s * g for s, g in signs) / size, abs=1e-12)


def test_another_package_gives_the_same_numbers() -> None:
    """``mbe_eval`` averages repeats first and leaves out cells with tau-b undefined, so that one repeat and tau-b are compared."""
    from mbe_eval.comparators import granulated_kendall, jiang_normalized_cmi, kendall_rank_correlation

    frame = pd.DataFrame(random_ledger(6, repeats=1))
    found = {
        name: value.value for name, value in ish.rank(frame, ["mu"], hyperparameters=NAMES, resamples=2)["mu"].items()
    }
    assert found["kendall"] == pytest.approx(kendall_rank_correlation(frame["mu"], frame["gap"]), abs=1e-9)
    assert found["granulated_kendall_b"] == pytest.approx(granulated_kendall(frame, "mu", "gap", NAMES)[0], abs=1e-9)
    theirs = jiang_normalized_cmi(frame, "mu", "gap", NAMES)[0]
    assert found["conditional_mutual_information"] == pytest.approx(theirs, abs=1e-9)


def test_another_package_gives_the_same_environments() -> None:
    from mbe_eval.robust_sign_error import robust_sign_error_environments, robust_sign_error_summary

    frame = pd.DataFrame(random_ledger(7, repeats=5))
    frame["configuration"] = frame[list(NAMES)].astype(str).agg("-".join, axis=1)
    theirs = robust_sign_error_environments(frame, ["mu"], list(NAMES), target="gap", config_column="configuration")
    summary = robust_sign_error_summary(theirs, ["mu"]).query("hyperparameter == 'all'").iloc[0]
    ranking = ish.rank(frame, ["mu"], hyperparameters=NAMES, resamples=2)
    assert ranking.environments == len(theirs) > 0
    expected = [summary[f"{kind}_sign_error"] for kind in ("mean", "p90", "max")]
    assert [ranking["mu"][f"sign_error_{kind}"].value for kind in ("mean", "90", "max")] == pytest.approx(
        expected, abs=1e-9
    )
