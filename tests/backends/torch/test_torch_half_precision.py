"""Modules in half precision are measured as they are, and what they give is added up in single precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.testing import check_oracle
from zoo.architectures import ARCHITECTURES, Architecture
from zoo.mutants import Mutant
from zoo.torch_derivatives import LOSSES, dense_hessian, dense_matrix, example_gradients
from zoo.torch_networks import random_problem

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
every_type = pytest.mark.parametrize("dtype", HALF)

ROUNDINGS = 8
"""So many units of rounding are allowed: up to five layers round, back and forth, and a ReLU near its kink may fall on the other side."""


@cache
def problem(kind: str, dtype: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor, nn.Module]:
    """A network, its data in its own type, and the same network in double precision."""
    model, x, y = random_problem(kind, examples=48)
    half = model.to(HALF[dtype])
    return half, x.to(HALF[dtype]), y, copy.deepcopy(half).double()


def oracle_of(kind: str, dtype: str) -> Any:
    half, x, y, _ = problem(kind, dtype)
    return ish.oracle(half, (x, y), batch_size=7)


def flat(vector: ish.ParameterVector) -> Any:
    return np.concatenate([np.ravel(array.double()) for array in vector.arrays.values()])


def assert_close(value: Any, expected: Any, dtype: str, what: str) -> None:
    error = float(np.linalg.norm(value - expected) / np.linalg.norm(expected))
    allowed = ROUNDINGS * torch.finfo(HALF[dtype]).eps
    assert error <= allowed, f"{what}: relative error {error:.1e}, {allowed:.1e} allowed"


def relu_network(dtype: torch.dtype, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    layers = [nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5)]
    return nn.Sequential(*layers).to(dtype), torch.randn(200, 10).to(dtype), torch.randint(0, 5, (200,))


@every_type
def test_vectors_hold_the_parameters_exactly_in_single_precision(dtype: str) -> None:
    half, *_ = problem("mlp", dtype)
    for name, array in oracle_of("mlp", dtype).parameters.arrays.items():
        assert array.dtype == torch.float32, f"{name} is held in {array.dtype}"
        assert torch.equal(array, half.get_parameter(name).float()), f"{name} was rounded"


@every_type
@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet"])
def test_derivatives_are_those_of_the_dense_hessian_in_double_precision(kind: str, dtype: str) -> None:
    _, x, y, double = problem(kind, dtype)
    oracle, loss = oracle_of(kind, dtype), LOSSES["cross_entropy"]
    matrix = dense_matrix(dense_hessian(double, x.double(), y, loss)).numpy()
    rows = example_gradients(double, x.double(), y, loss)
    gradients = np.concatenate([rows[name].reshape(len(y), -1).numpy() for name in oracle.parameters.arrays], axis=1)
    point, names = oracle.parameters, frozenset(oracle.parameters.arrays)
    v = ish.prng.signs(oracle, 0, 0)
    assert_close(flat(oracle.gradient(point)), gradients.mean(axis=0), dtype, "the gradient")
    assert_close(flat(oracle.hessian_vector_product(point, v)), matrix @ flat(v), dtype, "the product")
    assert_close(flat(oracle.gauss_newton_diagonal(point, names)), matrix.diagonal(), dtype, "the diagonal")
    assert_close(flat(oracle.gradient_second_moment(point)), (gradients**2).mean(axis=0), dtype, "the second moments")


def test_batches_are_added_up_in_single_precision() -> None:
    half, x, y = relu_network(torch.bfloat16)
    oracle = ish.oracle(half, (x, y), batch_size=1)
    parameters = list(half.parameters())
    total = np.zeros(sum(p.numel() for p in parameters))
    for row, label in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(half(row[None]).float(), label[None])
        total += np.concatenate([g.double().numpy().ravel() for g in torch.autograd.grad(loss, parameters)])
    gradient = flat(oracle.gradient(oracle.parameters))
    error = np.abs(gradient - total / len(y)).max() / np.abs(total / len(y)).max()
    assert error <= 1e-6, f"relative error {error:.1e}, where each batch's gradient is the same bit by bit"


@every_type
def test_normalized_sharpness_stays_the_same_under_powers_of_two(dtype: str) -> None:
    """Rounding commutes with powers of two; but float16 has so short a range that small cotangents lose digits."""
    half, x, y = relu_network(HALF[dtype])
    before = ish.oracle(half, (x, y))
    value, loss = ish.normalized_sharpness(before).value, before.loss(before.parameters)
    first, _, second, _, third = copy.deepcopy(half)
    rows, columns = 2.0 ** torch.randint(-3, 4, (32,)), 2.0 ** torch.randint(-3, 4, (16,))
    with torch.no_grad():
        first.weight.mul_(rows[:, None])
        first.bias.mul_(rows)
        second.weight.mul_(columns[:, None] / rows)
        second.bias.mul_(columns)
        third.weight.div_(columns)
    moved = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
    after = ish.oracle(moved, (x, y))
    again = ish.normalized_sharpness(after).value
    assert after.loss(after.parameters) == loss, "the loss moved"
    assert again == pytest.approx(value, rel=1e-12 if dtype == "bfloat16" else 1e-8), (
        f"moved from {value!r} to {again!r}"
    )


@every_type
def test_normalized_sharpness_is_near_that_of_the_same_parameters_in_single_precision(dtype: str) -> None:
    half, x, y = relu_network(HALF[dtype])
    value = ish.normalized_sharpness(ish.oracle(half, (x, y))).value
    expected = ish.normalized_sharpness(ish.oracle(half, (x, y), dtype="float32")).value
    change = abs(value / expected - 1)
    assert change <= torch.finfo(HALF[dtype]).eps, f"{value} in {dtype}, {expected} in float32: {change:.1e}"


@every_type
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_is_certified_that_is_not_exact(name: str, dtype: str) -> None:
    """And what is exact is certified; but a bias that a normalization takes out again is affine only up to rounding."""
    architecture: Architecture = ARCHITECTURES[name]
    model, x, y = architecture.problem(examples=32)
    oracle = ish.oracle(model.to(HALF[dtype]), (x, y))
    defects = curvature_defects(oracle)
    unreached = frozenset(name for name, defect in defects.items() if np.isnan(defect))
    refused = oracle.parameters.arrays.keys() - exact_groups(oracle, defects) - unreached
    cancelled = frozenset({"0.bias"}) if name == "instance_norm" else frozenset()
    assert refused == architecture.refused | cancelled, f"defects {defects}"


def test_squares_of_large_gradients_do_not_overflow() -> None:
    """Those of single examples reach 1e6, and float16 ends at 65504."""
    torch.manual_seed(0)
    half, x, y = nn.Linear(3, 2).half(), 1000 * torch.randn(20, 3).half(), torch.randint(0, 2, (20,))
    oracle = ish.oracle(half, (x, y))
    moments = oracle.gradient_second_moment(oracle.parameters)["weight"].double()
    outputs = copy.deepcopy(half).double()(x.double()).detach()
    slopes = nn.functional.softmax(outputs, dim=1) - nn.functional.one_hot(y, 2)
    expected = (slopes[:, :, None] * x.double()[:, None]).square().mean(dim=0)
    error = float((moments - expected).abs().max() / expected.abs().max())
    assert expected.max() > 65504, f"{expected} is no test"
    assert error <= 4 * torch.finfo(torch.float16).eps, f"relative error {error:.1e}"


class Lookup(nn.Module):
    """A table of rows, and a classifier of the mean of some."""

    def __init__(self, take_rows: Callable[[nn.Embedding, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head, self.take_rows = nn.Embedding(3, 4), nn.Linear(4, 3), take_rows

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.take_rows(self.table, tokens).mean(dim=1))


def layer_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.Flatten(), nn.Linear(16, 3))


MANY_TERMS = {
    "embedding": lambda: Lookup(lambda table, tokens: table(tokens)),
    "bare parameter": lambda: Lookup(lambda table, tokens: table.weight[tokens]),
    "embedding bag": lambda: Lookup(
        lambda table, tokens: nn.functional.embedding_bag(tokens, table.weight, mode="sum")[:, None]
    ),
    "layer norm": layer_norm,
}


@pytest.mark.parametrize("kind", MANY_TERMS)
def test_thousands_of_terms_are_added_up_whole(kind: str) -> None:
    """In bfloat16 their sum would stand still; so torch does it on a CPU."""
    half = MANY_TERMS[kind]().bfloat16()
    tokens = torch.zeros(1024, 4, dtype=torch.int64)
    tokens[:, 3] = torch.arange(1024) % 3
    labels = torch.zeros(1024, dtype=torch.int64)
    oracle = ish.oracle(half, (tokens, labels), batch_size=1024)
    double = copy.deepcopy(half).double()
    nn.functional.cross_entropy(double(tokens), labels).backward()
    for name, slope in oracle.gradient(oracle.parameters).arrays.items():
        assert_close(slope.double().numpy(), double.get_parameter(name).grad.numpy(), "bfloat16", name)


def test_targets_are_not_rounded() -> None:
    torch.manual_seed(0)
    half, x, t = nn.Linear(3, 2).bfloat16(), torch.randn(9, 3).bfloat16(), torch.randn(9, 2)
    expected = float(((half(x).detach().double() - t.double()) ** 2).mean())
    for data in ((x, t), [(x, t)]):
        oracle = ish.oracle(half, data, loss="mse")
        loss = oracle.loss(oracle.parameters)
        assert loss == pytest.approx(expected, rel=1e-6), f"{loss} instead of {expected}"


def test_a_frozen_part_in_half_precision_is_no_obstacle() -> None:
    body, head = nn.Linear(10, 6).bfloat16().requires_grad_(requires_grad=False), nn.Linear(6, 5)

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = body, head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.body(x)).float())

    _, x, y = relu_network(torch.bfloat16)
    oracle = ish.oracle(Adapted(), (x, y))
    h = torch.relu(body(x)).double()
    slopes = nn.functional.softmax(h @ head.weight.double().T + head.bias, dim=1) - nn.functional.one_hot(y, 5)
    expected = (slopes.T @ h / len(y)).detach()
    error = float((oracle.gradient(oracle.parameters)["head.weight"] - expected).abs().max() / expected.abs().max())
    assert error <= 1e-5, f"relative error {error:.1e} in the head, which is in single precision"


@every_type
def test_the_checks_pass(dtype: str) -> None:
    half, x, y = relu_network(HALF[dtype])
    results = check_oracle(ish.oracle(half, (x, y)), on_fail="return")
    failed = [str(result) for result in results if result.status == "failed"]
    assert not failed, "; ".join(failed)


@every_type
def test_the_checks_find_a_product_that_is_half_too_large(dtype: str) -> None:
    half, x, y = relu_network(HALF[dtype])
    wrong = Mutant(
        ish.oracle(half, (x, y)), hessian_vector_product=lambda base, p, v: 1.5 * base.hessian_vector_product(p, v)
    )
    failed = [result.check for result in check_oracle(wrong, on_fail="return") if result.status == "failed"]
    assert "check_gauss_newton_diagonal" in failed, f"only {failed} failed"


@every_type
def test_the_model_is_left_as_it_was(dtype: str) -> None:
    half, x, y = relu_network(HALF[dtype])
    before = {name: (p.data_ptr(), p.dtype, p.detach().clone()) for name, p in half.named_parameters()}
    ish.measure(ish.oracle(half, (x, y)), ["normalized_sharpness", "hessian_trace"])
    for name, p in half.named_parameters():
        pointer, kept, values = before[name]
        assert (p.data_ptr(), p.dtype) == (pointer, kept), f"{name} is another tensor"
        assert torch.equal(p, values), f"{name} has changed"
