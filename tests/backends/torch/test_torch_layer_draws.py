"""The residual part of the diagonal, layer by layer, against dense Hessians in float64."""

from __future__ import annotations

import copy
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.protocol import ResidualDiagonalOracle, capability
from zoo.functional_networks import transformer
from zoo.smooth_networks import CASES
from zoo.torch_derivatives import cross_entropy, dense_hessian

Tensor = torch.Tensor


@cache
def problem(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    return CASES[kind].problem()


def oracle_of(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Any:
    oracle = capability(ish.oracle(model, (x, y), **options), ResidualDiagonalOracle)
    assert oracle is not None
    return oracle


@sdpa_kernel(SDPBackend.MATH)
def residual_of(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """The diagonal of H - G: of G by the Jacobians of the outputs."""
    blocks = dense_hessian(model, x, y, cross_entropy)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    outputs = lambda p: torch.func.functional_call(model, p, (x,))  # noqa: E731
    jacobians, p = torch.func.jacrev(outputs)(parameters), outputs(parameters).softmax(-1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    found = {}
    for name, jacobian in jacobians.items():
        flat = jacobian.reshape(*p.shape, -1)
        gauss_newton = torch.einsum("nki,nkl,nli->i", flat, curvature, flat) / len(x)
        found[name] = (blocks[name][name].diagonal() - gauss_newton).reshape(parameters[name].shape).numpy()
    return found


@pytest.mark.parametrize("kind", CASES)
def test_unit_vectors_give_the_residual_diagonal(kind: str) -> None:
    model, x, y = problem(kind)
    oracle = oracle_of(model, x, y, batch_size=4)
    units = oracle.layer_units(oracle.parameters)
    assert {name for name, _ in model.named_parameters()} - units.keys() == CASES[kind].outside, sorted(units)
    found, expected = oracle.residual_diagonal(oracle.parameters, units), residual_of(model, x, y)
    for name in units:
        error = np.abs(found[name].numpy() - expected[name]).max()
        assert error <= 1e-13, f"{name} is off by {error:.1e}: {found[name]} instead of {expected[name]}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_draws_are_unbiased(kind: str) -> None:
    model, x, y = problem(kind)
    oracle, draws = oracle_of(model, x, y), 300
    units = oracle.layer_units(oracle.parameters)
    samples = [
        oracle.sampled_residual_diagonal(oracle.parameters, units, range(number, number + 1), 0)
        for number in range(draws)
    ]
    expected = oracle.residual_diagonal(oracle.parameters, units)
    for name in units:
        stacked = torch.stack([sample[name] for sample in samples])
        errors = stacked.std(0) / draws**0.5 + 1e-12
        largest = float(((stacked.mean(0) - expected[name]) / errors).abs().max())
        assert largest <= 5, f"the mean of {name} is off by {largest:.1f} standard errors"


def test_mean_over_all_signs_is_exact() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 2)).double()
    x, y = torch.randn(1, 2, dtype=torch.float64), torch.tensor([1])
    oracle = oracle_of(model, x, y)
    units = oracle.layer_units(oracle.parameters)
    with oracle.engine.at(oracle.engine.parameters()) as point:
        squares = [
            _with_signs(point, units, np.array(signs, dtype=np.int8), (x, y)) for signs in product((-1, 1), repeat=3)
        ]
    found = torch.stack(squares).mean(0).numpy()
    error = np.abs(found - residual_of(model, x, y)["0.weight"]).max()
    assert error <= 1e-15, f"the mean over all signs is off by {error:.1e}"


def _with_signs(point: Any, units: Any, signs: np.ndarray, batch: Any) -> Tensor:
    class Given:
        """Perturbations that are given."""

        def __init__(self) -> None:
            self.units = {name: of_layer for name, of_layer in units.items() if name == "0.weight"}

        def of_layer(self, _layer: int, *shape: int) -> Any:
            yield signs.reshape(shape)

    return point.residual_squares(Given(), batch).arrays[0]["0.weight"]


# a single example does not show which tables all examples share; a last batch of one does no harm
@pytest.mark.parametrize(
    ("kind", "least"), [("gelu", 1), ("convolution", 1), ("encoder", 1), ("tables of positions", 2)]
)
def test_a_draw_is_the_same_in_batches_of_any_size(kind: str, least: int) -> None:
    model, x, y = problem(kind)
    draws = []
    for size in (least, 3, len(x)):
        oracle = oracle_of(model, x, y, batch_size=size)
        units = oracle.layer_units(oracle.parameters)
        draws.append(oracle.sampled_residual_diagonal(oracle.parameters, units, range(2), 5))
    for name in units:
        largest = float(draws[-1][name].abs().max())
        errors = [float((draw[name] - draws[-1][name]).abs().max()) for draw in draws]
        assert max(errors) <= 1e-13 * max(largest, 1e-3), f"{name} moves by {errors}"


def test_a_draw_moves_with_a_rescaling_bit_by_bit() -> None:
    torch.manual_seed(0)
    model = Gated().double()
    x, y = torch.randn(12, 5, dtype=torch.float64), torch.randint(0, 3, (12,))
    before = ish.hessian_diagonal(ish.oracle(model, (x, y)), probes=4)
    factors = torch.tensor([2.0**k for k in (3, -5, 0, 9, -2, 1, 7)], dtype=torch.float64)
    with torch.no_grad():
        model.up.weight *= factors[:, None]
        model.up.bias *= factors
        model.down.weight /= factors
    after = ish.hessian_diagonal(ish.oracle(model, (x, y)), probes=4)
    moved = {"up.weight": factors[:, None], "up.bias": factors, "down.weight": 1 / factors}
    for name, group in before.groups.items():
        factor = moved.get(name, torch.ones(())).numpy()
        assert np.array_equal(after[name].values * factor**2, group.values), f"{name} ({group.method}) moved otherwise"
    assert before["up.weight"].method == before["gate.weight"].method == "layer draws"


def test_a_draw_at_packed_attention_moves_with_a_rescaling_bit_by_bit() -> None:
    model, x, y = problem("torch's encoder")
    model = copy.deepcopy(model)
    before = ish.hessian_diagonal(ish.oracle(model, (x, y)), probes=4)
    keys, values = (torch.tensor([2.0**k for k in powers]) for powers in ((3, -5, 0, 9, -2, 1), (-1, 4, 2, -7, 0, 6)))
    rows = torch.cat([1 / keys, keys, values]).double()
    with torch.no_grad():
        model.layer.self_attn.in_proj_weight *= rows[:, None]
        model.layer.self_attn.in_proj_bias *= rows
        model.layer.self_attn.out_proj.weight /= values
    after = ish.hessian_diagonal(ish.oracle(model, (x, y)), probes=4)
    moved = {"in_proj_weight": rows[:, None], "in_proj_bias": rows, "out_proj.weight": 1 / values}
    for name, group in before.groups.items():
        factor = moved.get(name.removeprefix("layer.self_attn."), torch.ones(())).numpy()
        assert np.array_equal(after[name].values * factor**2, group.values), f"{name} ({group.method}) moved otherwise"
    assert before["layer.self_attn.in_proj_weight"].method == "layer draws"


class Gated(nn.Module):
    """Two layers whose outputs are multiplied, and mixed by a smooth function: rescaling the one moves no other output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.up, self.down = nn.Linear(5, 8), nn.Linear(8, 7), nn.Linear(8, 7), nn.Linear(7, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(functional.gelu(self.down(functional.silu(self.gate(x)) * self.up(x))))


class Twice(nn.Module):
    """A layer that is used once or twice, as the batch is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.shared(functional.gelu(self.first(x))))
        again = functional.gelu(self.shared(x))
        return self.head(torch.where(x[:, :1] > 0, again, x) if bool((x[:, 0] > 0).any()) else x)


def test_layer_that_is_none_takes_the_general_path() -> None:
    torch.manual_seed(1)
    model, x, y = Twice().double(), torch.randn(9, 4, dtype=torch.float64), torch.randint(0, 3, (9,))
    oracle = oracle_of(model, x, y, batch_size=3)
    units = oracle.layer_units(oracle.parameters)
    assert not {"shared.weight", "shared.bias"} & units.keys(), f"{sorted(units)} have a layer"
    true = _dense_diagonal(model, x, y)
    found = ish.hessian_diagonal(oracle, probes=16, seed=2)
    assert found["shared.weight"].method == "residual probes", found["shared.weight"].method
    for name, group in found.groups.items():
        if group.parts is None:
            error = np.abs(group.values - true[name]).max()
            assert error <= 1e-13, f"{name} ({group.method}) is off by {error:.1e}"
        else:
            errors = group.parts.std(0, ddof=1) / len(group.parts) ** 0.5 + 1e-13
            largest = np.abs((group.values - true[name]) / errors).max()
            assert largest <= 12, f"{name} ({group.method}) is off by {largest:.1f} standard errors"


def _dense_diagonal(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    """Column by column, since the forward pass may branch."""
    parameters = dict(model.named_parameters())
    with sdpa_kernel(SDPBackend.MATH):
        loss = functional.cross_entropy(model(x), y)
    found = {}
    for name, parameter in parameters.items():
        (slope,) = torch.autograd.grad(loss, parameter, create_graph=True, materialize_grads=True, allow_unused=True)
        entries = [
            torch.autograd.grad(s, parameter, retain_graph=True)[0].flatten()[i] if s.requires_grad else s
            for i, s in enumerate(slope.flatten())
        ]
        found[name] = torch.stack(entries).reshape(parameter.shape).detach().numpy()
    return found


@pytest.mark.parametrize("wrap", ["scaled", "restricted", "moved"])
def test_other_coordinates_pass_it_on(wrap: str) -> None:
    model, x, y = problem("gelu")
    oracle = oracle_of(model, x, y)
    plain = ish.hessian_diagonal(oracle, probes=8)
    scale = ish.scales.balanced(oracle)
    wrapped: Any = {
        "scaled": lambda: ish.Scaled(oracle, scale),
        "restricted": lambda: ish.Restricted(oracle, "*.weight"),
        "moved": lambda: ish.Moved(oracle, 1.0 * oracle.parameters),
    }[wrap]()
    found = ish.hessian_diagonal(wrapped, probes=8)
    for name, group in found.groups.items():
        factor = oracle.to_numpy(scale)[name] ** 2 if wrap == "scaled" else 1.0
        error = np.abs(group.values - factor * plain[name].values).max() / np.abs(group.values).max()
        assert error <= 1e-12, f"{name} ({group.method}) is off by {error:.1e}"


@pytest.mark.parametrize("kind", ["cross-attention", "recurrent", "plain functions"])
def test_few_entries_outside_of_layers_get_their_columns(kind: str) -> None:
    model, x, y = problem(kind)
    found, true = ish.hessian_diagonal(oracle_of(model, x, y)), _dense_diagonal(model, x, y)
    for name in CASES[kind].outside:
        error = np.abs(found[name].values - true[name]).max()
        assert found[name].method == "exact (columns)", f"{name} of {true[name].size} entries: {found[name].method}"
        assert error <= 1e-13, f"{name} is off by {error:.1e}"


@pytest.mark.slow
def test_interval_holds_the_truth_on_an_encoder_of_torch() -> None:
    torch.manual_seed(4)
    model = transformer(examples_first=True).double().eval()
    x, y = torch.randn(64, 3, 4, dtype=torch.float64), torch.randint(0, 3, (64,))
    oracle, true = oracle_of(model, x, y), _dense_diagonal(model, x, y)
    exact = HessianDiagonal({name: GroupDiagonal(values, "exact") for name, values in true.items()})
    truth = ish.normalized_sharpness(oracle, diagonal=exact).value
    found = [ish.normalized_sharpness(oracle, seed=seed) for seed in range(8)]
    missed = [f"{estimate.value:.4f}, {estimate.interval()}" for estimate in found if not held(estimate, truth)]
    assert not missed, f"the truth is {truth:.4f}, but {missed}"


def held(estimate: ish.Estimate, truth: float) -> bool:
    lower, upper = estimate.interval()
    return lower <= truth <= upper


def test_gauss_newton_has_no_residual_part() -> None:
    model, x, y = problem("gelu")
    oracle = oracle_of(model, x, y)
    assert not ish.GaussNewton(oracle).layer_units(oracle.parameters)
