"""The diagonal of the residual part is checked against columns, its draws against their mean, and an engine's signs against the cut of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.testing import CheckFailedError, CheckSkippedError, check_engine
from invariant_sharpness.testing.residual_diagonal import check_residual_diagonal
from invariant_sharpness_torch.point import TorchPoint
from zoo.mutants import Mutant, base
from zoo.seeds import seeds
from zoo.smooth_networks import CASES


@cache
def problem(kind: str) -> tuple[Any, tuple[torch.Tensor, torch.Tensor]]:
    model, x, y = CASES[kind].problem()
    return ish.oracle(model, (x, y)), (x, y)


@seeds(2)
@pytest.mark.parametrize(
    "kind",
    [
        "gelu",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("torch's encoder", "torch's attention, other values")),
    ],
)
def test_right_diagonals_pass(kind: str, seed: int) -> None:
    figures = check_residual_diagonal(problem(kind)[0], seed)
    assert figures["roundings_off"] <= 0.1, f"{figures}"


def test_oracle_without_layers_is_skipped() -> None:
    plain = ish.GaussNewton(base())
    with pytest.raises(CheckSkippedError, match="layer"):
        check_residual_diagonal(plain, 0)


def unrestricted(oracle: Any, p: Any, _units: Any) -> Any:
    return oracle.residual_diagonal(p, oracle.layer_units(p))


def one_layer(oracle: Any, p: Any, units: Any) -> Any:
    """A layer is missing."""
    return oracle.residual_diagonal(p, dict(list(units.items())[2:]))


MUTANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "1 % too large": ("residual_diagonal", lambda o, *given: 1.01 * o.residual_diagonal(*given)),
    "without a layer": ("residual_diagonal", one_layer),
    "at the model's parameters": ("residual_diagonal", lambda o, _, u: o.residual_diagonal(o.parameters, u)),
    "draws that are all the same": (
        "sampled_residual_diagonal",
        lambda o, p, u, _, seed: o.sampled_residual_diagonal(p, u, range(1), seed),
    ),
    "draws of the Hessian": (
        "sampled_residual_diagonal",
        lambda o, p, u, *rest: o.sampled_residual_diagonal(p, u, *rest) + o.gauss_newton_diagonal(p, frozenset(u)),
    ),
}


@seeds(2)
@pytest.mark.parametrize("what", MUTANTS)
def test_mistake_is_found(what: str, seed: int) -> None:
    method, wrong = MUTANTS[what]
    with pytest.raises(CheckFailedError, match=rf"\b{method}"):
        check_residual_diagonal(Mutant(problem("gelu")[0], **{method: wrong}), seed)


def test_diagonal_that_ignores_the_names_is_found() -> None:
    """A wide layer is left out of what is asked for."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 70), torch.nn.GELU(), torch.nn.Linear(70, 2)).double()
    oracle = ish.oracle(model, (torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0])))
    with pytest.raises(CheckFailedError, match=r"residual_diagonal is not zero in '0\."):
        check_residual_diagonal(Mutant(oracle, residual_diagonal=unrestricted), 0)


def test_engine_whose_signs_belong_to_the_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_batch(point: TorchPoint, perturbations: Any, batch: Any) -> Any:
        draws = perturbations.draws._replace(start=0)
        return TorchPoint.residual_squares(point, perturbations._replace(draws=draws), batch)

    oracle, batch = problem("torch's encoder")
    assert {result.status for result in check_engine(oracle.engine, batch)} == {"passed"}
    broken = type("Broken", (TorchPoint,), {"residual_squares": of_the_batch})
    monkeypatch.setattr("invariant_sharpness_torch.engine.TorchPoint", broken)
    with pytest.raises(CheckFailedError, match="check_cut: residual_squares of a batch differs by"):
        check_engine(oracle.engine, batch)
