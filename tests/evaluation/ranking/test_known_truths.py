"""Measures whose worth is known: the gap itself, noise, a specialist of one hyperparameter, and intervals that hold the truth."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish

NAMES = ("lr", "width", "depth")


def zoo(seed: int, *, repeats: int = 4) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    rows = []
    for lr, width, depth in product((1, 2, 3, 4), (1, 2, 3), (1, 2, 3)):
        for repeat in range(repeats):
            gap = 0.1 * lr + 0.01 * width + 0.01 * depth + 0.02 * generator.random()
            noise = float(generator.random())
            rows.append(
                {
                    "lr": lr,
                    "width": width,
                    "depth": depth,
                    "seed": repeat,
                    "gap": gap,
                    "truth": gap,
                    "noise": noise,
                    "axis": lr,
                }
            )
    return rows


def test_the_gap_itself_is_a_perfect_measure() -> None:
    found = ish.rank(zoo(0), ["truth"], hyperparameters=NAMES, resamples=50)["truth"]
    ones = ("kendall", "granulated_kendall", "granulated_kendall_b", "conditional_mutual_information")
    zeros = ("sign_error_mean", "sign_error_90", "sign_error_max", "selection_regret")
    assert [found[name].value for name in ones] == pytest.approx([1.0] * 4, abs=1e-12)
    assert [found[name].value for name in zeros] == [0.0] * 4


def test_noise_is_worth_nothing() -> None:
    values = [ish.rank(zoo(seed), ["noise"], hyperparameters=NAMES, resamples=2)["noise"] for seed in range(20)]
    means = {name: float(np.mean([of[name].value for of in values])) for name in values[0]}
    assert abs(means["kendall"]) < 0.05, means
    assert abs(means["granulated_kendall"]) < 0.05, means
    assert means["conditional_mutual_information"] < 0.01, means
    assert abs(means["sign_error_mean"] - 0.5) < 0.05, means


def test_a_specialist_of_one_hyperparameter_fools_tau_and_not_psi() -> None:
    found = ish.rank(zoo(1), ["axis"], hyperparameters=NAMES, resamples=2)["axis"]
    assert found["kendall"].value > 0.8, found["kendall"]
    assert found["granulated_kendall"].value == pytest.approx(1 / 3, abs=0.05)
    assert found["granulated_kendall_b"].value > 0.9, "tau-b leaves out the cells in which the measure is constant"


def test_the_sign_of_the_relation_is_told_for_each_hyperparameter() -> None:
    rows = [row | {"mixed": row["lr"] - 2 * row["width"]} for row in zoo(2)]
    along = ish.rank(rows, ["mixed"], hyperparameters=NAMES, resamples=2).by_hyperparameter["mixed"]
    assert (along["lr"].value, along["depth"].value) == (1.0, 0.0)
    assert along["width"].value < 0


def test_measures_that_are_not_told_apart_share_their_place() -> None:
    generator = np.random.default_rng(3)
    rows = [row | {"close": row["gap"] + 1e-3 * generator.random()} for row in zoo(3)]
    for row in rows:
        row["closer"] = row["gap"] + 1e-3 * generator.random()
    places = ish.rank(rows, ["close", "closer", "noise"], hyperparameters=NAMES).places()
    assert places == {"close": 1, "closer": 1, "noise": 3}


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    """200 ledgers of 48 configurations; the truth is the mean of the statistic over 400 further ledgers."""
    names = ("kendall", "granulated_kendall", "conditional_mutual_information", "sign_error_mean")
    options: dict[str, Any] = {"hyperparameters": ("a", "b", "c"), "smallest_environment": 4}
    truth = [ish.rank(noisy_zoo(10_000 + seed), ["mu"], resamples=1, **options)["mu"] for seed in range(400)]
    held = dict.fromkeys(names, 0)
    for seed in range(200):
        found = ish.rank(noisy_zoo(seed), ["mu"], resamples=300, seed=seed, **options)["mu"]
        for name in names:
            held[name] += found[name].low <= np.mean([of[name].value for of in truth]) <= found[name].high
    shares = {name: count / 200 for name, count in held.items()}
    assert all(0.92 <= share <= 0.98 for share in shares.values()), shares


def noisy_zoo(seed: int) -> list[dict[str, Any]]:
    """Configurations with effects of their own in gap and measure, and repeats that differ less."""
    generator = np.random.default_rng(seed)
    rows = []
    for a, b, c in product(range(4), range(4), range(3)):
        of_gap, of_measure = 0.03 * generator.standard_normal(2)
        for repeat in range(3):
            gap = 0.2 + of_gap + 0.01 * generator.standard_normal()
            measure = gap / 2 + of_measure + 0.01 * generator.standard_normal()
            rows.append({"a": a, "b": b, "c": c, "seed": repeat, "gap": gap, "mu": measure})
    return rows
