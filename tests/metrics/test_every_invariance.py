"""Each metric stays under the symmetries that it declares to survive, and moves under all others."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from math import hypot
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.symmetries import SYMMETRIES, NamedSymmetry
from zoo import EXPERIMENTS
from zoo.invariant_metrics import relative_change

networks = runpy.run_path(str(EXPERIMENTS / "symmetric_networks.py"))
estimates, STAYS = networks["estimates"], networks["STAYS"]
MOVED = 100 * STAYS
"""Far above rounding, and small: a bound is mostly made of what no symmetry changes, the number of its scales."""
SLOW = (
    "congruent_contrastive_ratio",
    "contrastive_ratio",
    "flatness_volume",
    "keskar_subspace_sharpness",
    "kl_regret",
    "posterior_sharpness",
)
"""A value takes a search or a fit of up to 200 steps, 320 products, or the Jacobian of all outputs."""


def cells(chosen: Callable[[ish.Metric], tuple[NamedSymmetry, ...]]) -> Any:
    return pytest.mark.parametrize(
        ("name", "symmetry"),
        [
            pytest.param(name, s.name, marks=pytest.mark.slow if name in SLOW else (), id=f"{name}-{s.name}")
            for name, metric in ish.METRICS.items()
            for s in chosen(metric)
        ],
    )


def test_every_symmetry_has_its_networks() -> None:
    assert list(networks["PAIRS"]) == [symmetry.name for symmetry in SYMMETRIES]


@pytest.mark.parametrize("symmetry", networks["PAIRS"])
def test_the_loss_is_the_same(symmetry: str) -> None:
    pair = networks["PAIRS"][symmetry]
    oracles = networks["unchanged"](pair.network, pair.loss), networks["changed"](symmetry)
    before, after = (oracle.loss(oracle.parameters) for oracle in oracles)
    assert relative_change(before, after) <= 1e-12, f"the loss moved from {before!r} to {after!r}"


@cells(lambda metric: metric.unchanged_by)
def test_metric_survives(name: str, symmetry: str) -> None:
    before, after = (estimate.value for estimate in estimates(name, symmetry))
    change = relative_change(before, after)
    assert change <= STAYS, f"{name} moved from {before!r} to {after!r} ({change:.1e})"


@cells(lambda metric: metric.unchanged_up_to_error)
def test_metric_stays_up_to_its_error(name: str, symmetry: str) -> None:
    before, after = estimates(name, symmetry)
    change, rounding = abs(after.value - before.value), STAYS * abs(before.value)
    if before.standard_error is None:  # few enough columns: exact here, and sampled on larger networks
        assert change <= rounding, f"{name} moved from {before} to {after}"
    else:
        error = hypot(before.standard_error, after.standard_error)
        assert rounding < change <= 4 * error, f"{name} moved from {before} to {after}"


@cells(lambda metric: metric.changed_by)
def test_metric_moves(name: str, symmetry: str) -> None:
    before, after = (estimate.value for estimate in estimates(name, symmetry))
    change = relative_change(before, after)
    assert change > MOVED, (
        f"{name} stayed at {before!r} and {after!r} ({change:.1e}): declare it, if that is no accident"
    )
