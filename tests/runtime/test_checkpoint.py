"""Runs that were interrupted and go on: the same bits, and never with the state of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness_numpy import NetworkOracle
from zoo.interrupted_loops import (
    IDENTITY,
    LOOPS,
    TOGETHER,
    VECTOR,
    Interruptible,
    InterruptibleBlocks,
    base,
    numbers_of_diagonal,
    numbers_of_pairs,
)


@pytest.mark.parametrize("at", [1, 2, 5, 8])
@pytest.mark.parametrize("name", LOOPS)
def test_resumed_run_gives_the_same_bits(name: str, at: int, tmp_path: Path) -> None:
    expected, path = LOOPS[name](Interruptible(base())), tmp_path / "state"
    broken = Interruptible(base(), at)
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        LOOPS[name](broken)
    going_on = Interruptible(base())
    with ish.checkpoint(path, going_on):
        found = LOOPS[name](going_on)
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("name", LOOPS)
def test_nothing_is_computed_twice(name: str, tmp_path: Path) -> None:
    whole, path = Interruptible(base()), tmp_path / "state"
    LOOPS[name](whole)
    broken, going_on = Interruptible(base(), 6), Interruptible(base())
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        LOOPS[name](broken)
    with ish.checkpoint(path, going_on):
        LOOPS[name](going_on)
    done = 4 - 4 % TOGETHER.get(name, 1)
    expected = IDENTITY + whole.products - done
    assert going_on.products == expected, f"{going_on.products} of {whole.products} products, {done} done"


def test_sampled_outputs_are_resumed_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = tmp_path / "state", ish.normalized_sharpness(base(outputs=300), probes=16)
    drawn = NetworkOracle.sampled_gauss_newton_diagonal
    parts: list[range] = []

    def counted(self: Any, p: Any, names: Any, draws: range, seed: int) -> Any:
        parts.append(draws)
        if len(parts) == 4:
            raise KeyboardInterrupt
        return drawn(self, p, names, draws, seed)

    monkeypatch.setattr(NetworkOracle, "sampled_gauss_newton_diagonal", counted)
    oracle = base(outputs=300)
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, oracle):
        ish.normalized_sharpness(oracle, probes=16)
    with ish.checkpoint(path, oracle):
        found = ish.normalized_sharpness(oracle, probes=16)
    assert found == expected, f"{found} instead of {expected}"
    assert parts[4] == parts[3], f"went on with {parts[4]} instead of {parts[3]}"


def test_other_seed_starts_anew(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "state", oracle):
        first = ish.hessian_frobenius_norm(oracle, probes=5, seed=0)
        second = ish.hessian_frobenius_norm(oracle, probes=5, seed=1)
    assert second == ish.hessian_frobenius_norm(base(), probes=5, seed=1)
    assert first != second


def test_more_products_go_on_from_fewer(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "state", oracle):
        ish.hutchinson_trace(oracle, num_matvecs=9)
        more = ish.hutchinson_trace(oracle, num_matvecs=14)
    assert oracle.products == IDENTITY + 14, f"{oracle.products} products"
    assert more == ish.hutchinson_trace(base(), num_matvecs=14)


def test_other_coordinates_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    scaled = ish.Scaled(oracle, oracle.parameters.map(lambda a: np.abs(a) + 1))
    with ish.checkpoint(tmp_path / "state", oracle):
        ish.hessian_frobenius_norm(oracle, probes=5)
        found = ish.hessian_frobenius_norm(scaled, probes=5)
    assert found == ish.hessian_frobenius_norm(scaled, probes=5)


def test_hessian_and_gauss_newton_matrix_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    with ish.checkpoint(tmp_path / "state", oracle):
        hessian = ish.hessian_frobenius_norm(oracle, probes=5)
        found = ish.hessian_frobenius_norm(ish.GaussNewton(oracle), probes=5)
    assert found == ish.hessian_frobenius_norm(ish.GaussNewton(oracle), probes=5), f"{found}, by the Hessian {hessian}"
    assert found != hessian


def test_scales_that_differ_only_where_a_parameter_is_zero_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    oracle = ish.Moved(oracle, oracle.parameters * 0.0)
    one, two = (ish.Scaled(oracle, oracle.parameters.map(lambda a, s=s: a + s)) for s in (1.0, 2.0))
    with ish.checkpoint(tmp_path / "state", oracle):
        ish.hutchinson_trace(one, num_matvecs=9)
        found = ish.hutchinson_trace(two, num_matvecs=9)
    assert found == ish.hutchinson_trace(two, num_matvecs=9)


@pytest.mark.parametrize(
    ("name", "changed"),
    {
        "xtrace": lambda oracle: ish.xtrace(oracle, num_matvecs=12, seed=1),
        "xdiag": lambda oracle: numbers_of_diagonal(ish.xdiag(oracle, num_matvecs=14)),
        "hutch_plus_plus_trace": lambda oracle: ish.hutch_plus_plus_trace(oracle, num_matvecs=15),
        "eigenpairs": lambda oracle: numbers_of_pairs(oracle, ish.eigenpairs(oracle, largest=1, smallest=1)),
        "spectral_density": lambda oracle: ish.spectral_density(oracle, probes=3, steps=3).to_dict(),
        "spectral_density, probe by probe": lambda oracle: ish.spectral_density(
            oracle, probes=3, steps=4, eigenpairs=ish.eigenpairs(oracle)
        ).to_dict(),
        "hessian_frobenius_norm": lambda oracle: ish.hessian_frobenius_norm(oracle, probes=17),
        "hutchinson_trace_within": lambda oracle: ish.hutchinson_trace_within(
            oracle, relative_error=0.2, pilot_probes=5, num_matvecs=40
        ),
    }.items(),
)
def test_other_settings_take_up_no_state(name: str, changed: Callable[[Any], Any], tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "state", oracle):
        LOOPS[name](oracle)
        found = changed(oracle)
    expected = changed(Interruptible(base()))
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("shift", [0, 1])
def test_products_in_blocks_go_on_with_the_same_bits(shift: int, tmp_path: Path) -> None:
    """The interruption comes in the second block of 8 products, and between two blocks."""
    path = tmp_path / "state"
    with ish.memory_limit(40 * VECTOR):
        expected, whole = ish.xtrace(base(), num_matvecs=60), InterruptibleBlocks(base())
        ish.xtrace(whole, num_matvecs=60)
        broken, going_on = InterruptibleBlocks(base(), 3 + shift), InterruptibleBlocks(base())
        with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
            ish.xtrace(broken, num_matvecs=60)
        with ish.checkpoint(path, going_on):
            found = ish.xtrace(going_on, num_matvecs=60)
    assert found == expected, f"{found} instead of {expected}"
    assert going_on.blocks == whole.blocks - 2 - shift, f"{going_on.blocks} of {whole.blocks} blocks"
