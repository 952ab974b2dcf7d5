"""Metrics that are written for models of a framework are tested as those of oracles are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness.testing import Problem, check_metric
from invariant_sharpness.testing.metric_suite import metric_checks
from invariant_sharpness.testing.problems import default_problems
from invariant_sharpness_torch import model_metric
from zoo.model_trace import Trace, assert_untouched
from zoo.own_metrics import adaptive, networks


def torch_adaptive(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The norm of theta * gradient; does to the model what it should not."""
    loss = nn.functional.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    total = sum(((p.detach() * g) ** 2).sum() for p, g in zip(model.parameters(), gradients, strict=True))
    model.train()
    for parameter in model.parameters():
        parameter.data.zero_()
    return torch.as_tensor(total).sqrt()


def torch_filter_norms(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), weights)
    return torch.stack([(w.norm(dim=1) * g.norm(dim=1)).sum() for w, g in zip(weights, gradients, strict=True)]).sum()


def problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    return model, torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3


def failed(metric: Any, **options: Any) -> dict[str, str]:
    results = check_metric(metric, claims={"row_column"}, on_fail="return", **options)
    return {result.check: result.message for result in results if result.status == "failed"}


@pytest.mark.slow
def test_correct_metric_of_torch_models_passes_on_the_default_networks() -> None:
    results = check_metric(model_metric(torch_adaptive), claims={"row_column"})
    assert all(result.status == "passed" for result in results), f"{[str(result) for result in results]}"


def test_mistake_in_a_metric_of_torch_models_is_caught() -> None:
    found = failed(model_metric(torch_filter_norms))
    assert (
        "torch_filter_norms is declared invariant under 'row_column', but moved"
        in found["check_invariance[row_column]"]
    )


def test_value_is_that_of_the_model_and_of_the_same_metric_of_oracles() -> None:
    model, x, y = problem()
    oracle = ish.oracle(model, (x, y), batch_size=6)
    error = abs(float(model_metric(torch_adaptive)(oracle)) / adaptive(oracle) - 1)
    assert error < 1e-12, f"a relative error of {error}"


def test_moved_parameters_reach_the_copy() -> None:
    model, x, y = problem()
    oracle = ish.oracle(model, (x, y))
    there = ish.Moved(oracle, 2.0 * oracle.parameters)
    error = abs(float(model_metric(torch_adaptive)(there)) / adaptive(there) - 1)
    assert error < 1e-12, f"a relative error of {error}"


def test_model_of_the_user_is_untouched() -> None:
    model, x, y = problem()
    nn.functional.cross_entropy(model(x), y).backward()
    trace = Trace(model)
    check_metric(model_metric(torch_adaptive), claims={"row_column"}, oracles=ish.oracle(model, (x, y)))
    assert_untouched(trace)


def test_metric_that_writes_into_the_memory_of_the_model_is_caught() -> None:
    def in_place(oracle: Any) -> float:
        with torch.no_grad():
            return float(next(iter(oracle.parameters.arrays.values())).mul_(0.5).abs().sum())

    model, x, y = problem()
    assert (
        "changed the parameters, the loss"
        in failed(in_place, oracles=ish.oracle(model, (x, y)))["check_state_restored"]
    )


def test_snapshot_shows_what_no_oracle_sees() -> None:
    model, x, y = problem()

    def thawing(oracle: Any) -> float:
        model.train()
        return adaptive(oracle)

    thawed = Problem(ish.oracle(model, (x, y)), snapshot=lambda: {"training": model.training})
    assert "changed the model of the TorchOracle" in failed(thawing, oracles=thawed)["check_state_restored"]


def test_batches_of_a_loader_are_put_together() -> None:
    model, x, y = problem()
    loader = DataLoader(TensorDataset(x, y), batch_size=7)
    seen: list[tuple[torch.Size, torch.Size]] = []

    def shapes(_: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
        seen.append((inputs.shape, targets.shape))
        return 1.0

    model_metric(shapes)(ish.oracle(model, loader))
    assert seen == [((20, 4), (20,))], f"{seen}"


def test_oracle_of_another_framework_is_refused() -> None:
    with pytest.raises(ModelError, match="written for models of PyTorch, but it is measured on a NetworkOracle"):
        model_metric(torch_adaptive)(networks()[0].oracle)


def test_metric_of_torch_models_can_be_certified() -> None:
    model, x, y = problem()
    certificate = ish.certify(
        ish.oracle(model, (x, y)), [model_metric(torch_adaptive)], claims={"torch_adaptive": {"row_column"}}
    )
    assert not certificate.failed, f"{certificate}"


def test_metric_of_jax_functions_survives_what_it_should() -> None:
    jax = pytest.importorskip("jax")
    from invariant_sharpness_jax import model_metric as of_function

    def jax_adaptive(apply: Callable[[Any, Any], Any], parameters: Any, x: Any, y: Any) -> Any:
        def loss(at: Any) -> Any:
            return -jax.nn.log_softmax(apply(at, x))[np.arange(len(y)), y].mean()

        products = jax.tree.map(lambda p, g: ((p * g) ** 2).sum(), parameters, jax.jit(jax.grad(loss))(parameters))
        return sum(jax.tree.leaves(products)) ** 0.5

    oracle = default_problems("jax", set())[1].oracle
    error = abs(float(of_function(jax_adaptive)(oracle)) / adaptive(oracle) - 1)
    assert error < 1e-5, f"a relative error of {error} in single precision"
    checks = metric_checks(of_function(jax_adaptive), oracle, {"row_column"}, 0)
    change = checks["check_invariance[row_column]"]()["largest_change"]
    assert change < 5e-3, f"it moves by {change} in single precision"
