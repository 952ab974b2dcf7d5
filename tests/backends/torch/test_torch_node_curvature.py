"""Curvature propagation: the residual part of the diagonal from signs at the nonlinear operations above the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
import invariant_sharpness_torch.node_curvature as propagation
from invariant_sharpness.errors import ModelError
from invariant_sharpness.estimators.curvature_propagation import propagated_diagonal
from invariant_sharpness.protocol import NodeCurvatureOracle, ResidualDiagonalOracle, capability
from zoo.architectures import Composed
from zoo.smooth_networks import CASES
from zoo.torch_derivatives import cross_entropy, dense_hessian

Tensor = torch.Tensor

DRAWS = 64
"""So many draws of pairwise independent signs are all that there are for up to 63 entries."""


def oracle_of(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Any:
    oracle = capability(ish.oracle(model, (x, y), **options), NodeCurvatureOracle)
    assert oracle is not None
    return oracle


def walsh_signs(_seed: int, draw: int, node: int, _start: int, rows: int, width: int) -> np.ndarray:
    """Walsh functions, no two of which an operation takes alike: over all draws the products of any two have the mean zero."""
    assert width <= DRAWS * 3 // 4 if node % 2 == 0 else width < DRAWS // 4, "too few draws"
    columns = DRAWS - 1 - np.arange(width) if node % 2 else 1 + np.arange(width)
    parity = np.array([bin(column & draw).count("1") % 2 for column in columns])
    return np.broadcast_to(1 - 2 * parity, (rows, width)).astype(np.int8)


def check_exact(oracle: Any, names: frozenset[str] | None = None) -> None:
    """The mean over all draws is what unit vectors at the outputs of layers give, which other tests hold against dense Hessians."""
    able, at = capability(oracle, ResidualDiagonalOracle), oracle.parameters
    assert able is not None
    expected = oracle.to_numpy(able.residual_diagonal(at, able.layer_units(at)))
    known = frozenset(oracle.node_counts(at))
    assert names is None or known == names, f"known above {sorted(known)} instead of {sorted(names)}"
    found = oracle.to_numpy(oracle.propagated_residual_diagonal(at, known, range(DRAWS), 0))
    largest = max(np.abs(array).max() for array in expected.values())
    assert largest > 0, "nothing is curved"
    for name in known:
        error = np.abs(found[name] - expected[name]).max() / largest
        assert error <= 1e-13, f"{name} is off by {error:.1e}: {found[name]} instead of {expected[name]}"


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in CASES if kind not in ("encoder", "convolution")]


@pytest.mark.parametrize("kind", ["encoder", "convolution", *SLOW])
def test_mean_over_all_signs_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "node_signs", walsh_signs)
    check_exact(oracle_of(*CASES[kind].problem()))


def positive(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(0.5 + x.square())


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{f.__name__: f for f in (functional.gelu, functional.silu, functional.softplus, functional.elu, functional.celu)},
    **{f.__name__: f for f in (functional.mish, functional.logsigmoid, functional.selu, functional.softsign)},
    **{f.__name__: f for f in (torch.tanh, torch.sigmoid, torch.exp, torch.exp2, torch.expm1, torch.sin, torch.cos)},
    **{f.__name__: f for f in (torch.tan, torch.sinh, torch.cosh, torch.atan, torch.asinh, torch.erf, torch.erfc)},
    **{f.__name__: positive(f) for f in (torch.log, torch.log2, torch.log10, torch.log1p, torch.sqrt, torch.rsqrt)},
    "hardswish": functional.hardswish,
    "cube": lambda x: x**3,
    "reciprocal": positive(torch.reciprocal),
    "constant over": positive(lambda x: torch.full_like(x[..., :1], 2.0) / x),
    "normalized": lambda x: x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt(),
    "in place": lambda x: functional.silu(x, inplace=True),
    "tanh in place": lambda x: x.clone().tanh_(),
    "log-softmax": lambda x: x.log_softmax(-1),
    "softmax over positions": lambda x: x.softmax(1),
    "norm of positions": lambda x: functional.layer_norm(x, x.shape[1:]),
    "times itself": lambda x: x * x,
    "times its mean": lambda x: x * x.mean(-1, keepdim=True).sigmoid(),
    "outer product": lambda x: torch.einsum("nti,ntj->nti", x, x.sin()),
    "batched sum": lambda x: torch.baddbmm(x, x @ x.mT, x.cos()),
    "kinks": lambda x: functional.gelu(functional.leaky_relu(x.abs().clamp(0.1, 2.0) - 0.5)).cumsum(1),
    "moved": lambda x: functional.gelu(torch.stack([x.roll(1, 1), x.flip(2)]).sum(0)[:, [1, 0, 2]]),
}


def between(function: Callable[[Tensor], Tensor], **parts: nn.Module) -> nn.Module:
    torch.manual_seed(4)
    layers = {"first": nn.Linear(4, 4), "second": nn.Linear(4, 4), "last": nn.Linear(4, 3)}
    forward = lambda s, x: s.last(s.second(function(s.first(x))).tanh().mean(1))  # noqa: E731
    return Composed(forward, **layers, **parts).double()


def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(5, 3, 4, dtype=torch.float64), torch.randint(0, 3, (5,))


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_propagated_exactly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "node_signs", walsh_signs)
    model = between(FUNCTIONS[name])
    check_exact(oracle_of(model, *data()), frozenset(name for name, _ in model.named_parameters()))


@pytest.mark.slow
@pytest.mark.parametrize(("padding", "mode"), [("same", "zeros"), (1, "reflect"), ((0, 1), "circular")])
def test_padded_convolutions_are_exact(padding: Any, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "node_signs", walsh_signs)
    torch.manual_seed(0)
    first = nn.Conv2d(2, 2, 3, padding=padding, padding_mode=mode)
    rest = nn.GELU(), nn.Conv2d(2, 2, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    x = torch.randn(4, 2, 4, 4, dtype=torch.float64)
    check_exact(oracle_of(nn.Sequential(first, *rest).double(), x, torch.tensor([0, 1, 2, 0])))


class Cube(torch.autograd.Function):
    """A function that brings its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * cotangent


def modulus(x: Tensor) -> Tensor:
    z = x.to(torch.complex128) * 1j
    return (z + x.roll(1, -1)).abs()


@pytest.mark.parametrize(
    "function", [Cube.apply, lambda x: x.cumprod(1), lambda x: x * x.norm(dim=-1, keepdim=True), modulus]
)
def test_layers_below_unknown_operations_are_left_out(
    function: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagation, "node_signs", walsh_signs)
    check_exact(
        oracle_of(between(function), *data()), frozenset({"second.weight", "second.bias", "last.weight", "last.bias"})
    )


def test_operations_that_change_from_pass_to_pass_are_refused() -> None:
    functions = [torch.tanh]
    oracle = oracle_of(between(lambda x: functions[0](x)), *data())
    names = frozenset(oracle.node_counts(oracle.parameters))
    functions[0] = torch.sin
    assert not oracle.node_counts(oracle.parameters), "other operations than those that were tested are taken"
    with pytest.raises(ModelError, match="does not always compute the same way"):
        oracle.propagated_residual_diagonal(oracle.parameters, names, range(1), 0)


@pytest.mark.parametrize(("kind", "sizes"), [("convolution", (1, 3)), ("torch's encoder, positions first", (4,))])
def test_a_draw_is_the_same_in_batches_of_any_size(kind: str, sizes: tuple[int, ...]) -> None:
    model, x, y = CASES[kind].problem()
    draws = []
    for size in (*sizes, len(x)):
        oracle = oracle_of(model, x, y, batch_size=size)
        names = frozenset(oracle.node_counts(oracle.parameters))
        draws.append(oracle.to_numpy(oracle.propagated_residual_diagonal(oracle.parameters, names, range(2), 5)))
    for name in names:
        for other in draws[1:]:
            error = np.abs(other[name] - draws[0][name]).max()
            assert error <= 1e-13, f"{name} differs by {error:.1e}"


def rescalable() -> nn.Module:
    """Values and outputs, up and down, and units between ReLUs can be rescaled."""
    torch.manual_seed(6)

    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.embed(x)
        y = s.norm(x)
        x = x + s.output((s.query(y) @ s.key(y).mT / 2).softmax(-1) @ s.value(y))
        x = x + s.down(functional.silu(s.gate(x)) * s.up(x))
        return s.head(functional.relu(s.wide(x)).mean(1)).tanh()

    names = ("embed", "query", "key", "value", "output", "gate", "up", "down", "wide")
    parts = {name: nn.Linear(4, 4) for name in names}
    return Composed(forward, norm=nn.LayerNorm(4), head=nn.Linear(4, 3), **parts).double()


@pytest.mark.parametrize("pair", [("query", "key"), ("value", "output"), ("up", "down"), ("wide", "head")])
def test_a_draw_transforms_under_rescaling_bit_by_bit(pair: tuple[str, str]) -> None:
    model, above, below = rescalable(), *pair
    before = draw_of(model)
    factors = torch.tensor([4.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    scales = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    scales[f"{above}.weight"], scales[f"{above}.bias"] = factors[:, None], factors
    turned = 1 / factors[:, None] if below == "key" else 1 / factors
    scales[f"{below}.weight"] = turned
    if below == "key":
        scales["key.bias"] = 1 / factors
    with torch.no_grad():
        for name, p in model.named_parameters():
            p *= scales[name]
    for name, array in draw_of(model).items():
        expected = before[name] / scales[name].numpy() ** 2
        assert np.array_equal(array, expected), f"{name}: {array} instead of {expected}"


def draw_of(model: nn.Module) -> dict[str, np.ndarray]:
    oracle = oracle_of(model, *data())
    names = frozenset(oracle.node_counts(oracle.parameters))
    assert len(names) == len(oracle.groups), f"only {sorted(names)}"
    return oracle.to_numpy(oracle.propagated_residual_diagonal(oracle.parameters, names, range(1), 3))


def test_propagated_diagonal_is_that_of_the_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagation, "node_signs", walsh_signs)
    model, x, y = CASES["decoder"].problem()
    dense = dense_hessian(model, x, y, cross_entropy)
    found = propagated_diagonal(ish.oracle(model, (x, y)), draws=DRAWS)
    assert found.groups.keys() == dense.keys(), f"only {sorted(found.groups)}"
    for name, group in found.groups.items():
        error = np.abs(group.values.ravel() - dense[name][name].diagonal().numpy()).max()
        assert error <= 1e-13, f"{name} is off by {error:.1e}"


def test_propagated_diagonal_of_many_outputs_samples_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 300)).double()
    oracle = ish.oracle(model, (torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 1, 299])))
    found = propagated_diagonal(oracle, draws=32)["2.bias"]
    assert found.parts is not None, "the outputs were not sampled"
    assert len(found.parts) == 8, f"{len(found.parts)} parts"
    assert found.parts.std(axis=0).min() > 0, "no samples were drawn"
