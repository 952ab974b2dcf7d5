"""Draws at layers that were interrupted go on with the same bits; what they are added to is stored with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.dataset_oracle import DatasetOracle
from zoo.smooth_networks import CASES

PARTS = 10


def attention() -> Any:
    model, x, y = CASES["torch's attention to others"].problem()
    return ish.oracle(model, (x, y))


def numbers(oracle: Any) -> Any:
    groups = ish.hessian_diagonal(oracle, budget=30).groups
    parts = {name: group.parts.tolist() for name, group in groups.items() if group.method == "layer draws"}
    assert {len(of_group) for of_group in parts.values()} == {PARTS}, f"{len(parts)} groups are drawn"
    return parts


def drawing(monkeypatch: pytest.MonkeyPatch, at: int | None = None) -> list[range]:
    """The draws that are made from now on; the one with that number is interrupted."""
    draw, made = DatasetOracle.sampled_residual_diagonal, []

    def drawn(self: Any, parameters: Any, units: Any, draws: range, seed: int) -> Any:
        made.append(draws)
        if len(made) == at:
            raise KeyboardInterrupt
        return draw(self, parameters, units, draws, seed)

    monkeypatch.setattr(DatasetOracle, "sampled_residual_diagonal", drawn)
    return made


@pytest.mark.parametrize("at", [1, 2, PARTS])
def test_resumed_draws_give_the_same_bits(at: int, tmp_path: Path) -> None:
    expected, oracle = numbers(attention()), attention()
    with pytest.MonkeyPatch.context() as patch:
        drawing(patch, at)
        with pytest.raises(KeyboardInterrupt), ish.checkpoint(tmp_path, oracle):
            numbers(oracle)
    with pytest.MonkeyPatch.context() as patch, ish.checkpoint(tmp_path, oracle):
        made, found = drawing(patch), numbers(oracle)
    assert found == expected, "other numbers than of a run in one go"
    assert len(made) == PARTS - at + 1, f"{len(made)} parts after an interruption at part {at}"
