"""Propagated curvature is checked against columns, and an engine's signs against the cut of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.testing import CheckFailedError, check_engine
from invariant_sharpness.testing.residual_diagonal import check_node_curvature
from invariant_sharpness_torch.point import TorchPoint
from zoo.mutants import Mutant, base
from zoo.seeds import seeds
from zoo.smooth_networks import CASES


@cache
def problem(kind: str) -> tuple[Any, tuple[torch.Tensor, torch.Tensor]]:
    model, x, y = CASES[kind].problem()
    return ish.oracle(model, (x, y)), (x, y)


@seeds(2)
@pytest.mark.parametrize("kind", ["gelu", pytest.param("decoder", marks=pytest.mark.slow)])
def test_right_draws_pass(kind: str, seed: int) -> None:
    figures = check_node_curvature(problem(kind)[0], seed)
    assert figures["standard_errors_off"] <= 8, f"{figures}"


def test_network_of_relus_has_nothing_to_propagate() -> None:
    assert check_node_curvature(base(), 0) == {"curved_groups": 0}


MUTANTS: dict[str, Callable[..., Any]] = {
    "draws that are all the same": lambda o, p, names, _, seed: o.propagated_residual_diagonal(
        p, names, range(1), seed
    ),
    "draws of the Hessian": lambda o, p, names, *rest: (
        o.propagated_residual_diagonal(p, names, *rest) + o.gauss_newton_diagonal(p, names)
    ),
    "without a layer": lambda o, p, names, *rest: o.propagated_residual_diagonal(p, names - {"0.weight"}, *rest),
}


@seeds(2)
@pytest.mark.parametrize("what", MUTANTS)
def test_mistake_is_found(what: str, seed: int) -> None:
    with pytest.raises(CheckFailedError, match="propagated_residual_diagonal"):
        check_node_curvature(Mutant(problem("gelu")[0], propagated_residual_diagonal=MUTANTS[what]), seed)


@pytest.mark.slow
def test_engine_whose_signs_belong_to_the_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_batch(point: TorchPoint, names: Any, draws: Any, batch: Any) -> Any:
        return TorchPoint.node_squares(point, names, draws._replace(start=0), batch)

    oracle, batch = problem("convolution")
    broken = type("Broken", (TorchPoint,), {"node_squares": of_the_batch})
    monkeypatch.setattr("invariant_sharpness_torch.engine.TorchPoint", broken)
    with pytest.raises(CheckFailedError, match="check_cut: node_squares of a batch differs by"):
        check_engine(oracle.engine, batch)
