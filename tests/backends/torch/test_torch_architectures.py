"""The diagonal of every architecture against a dense float64 Hessian, and the verdict of the certificate."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.probed_diagonal import probe_means
from invariant_sharpness.symmetries import chain_rescalings
from zoo.architectures import ARCHITECTURES
from zoo.torch_derivatives import cross_entropy, dense_hessian, differenced_hessian

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

SMOOTH = ("attention", "lstm", "embedding", "tied")


@cache
def problem(kind: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor, dict[str, dict[str, torch.Tensor]]]:
    architecture = ARCHITECTURES[kind]
    model, x, y = architecture.problem()
    dense = dense_hessian if architecture.reference == "functional" else differenced_hessian
    return model, x, y, dense(model, x, y, cross_entropy)


def relative_error(value: Any, expected: Any) -> float:
    """Largest difference, relative to the largest expected entry."""
    value, expected = np.asarray(value), np.asarray(expected)
    return float(np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-300))


def all_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_diagonal_is_that_of_the_dense_hessian(kind: str) -> None:
    model, x, y, blocks = problem(kind)
    diagonal = ish.hessian_diagonal(ish.oracle(model, (x, y), batch_size=4), probes=all_parameters(model))
    scale = max(float(blocks[name][name].diagonal().abs().max()) for name in blocks)
    for name, part in diagonal.groups.items():
        expected = blocks[name][name].diagonal().reshape(part.values.shape).numpy()
        error = np.abs(part.values - expected).max() / scale
        assert error <= 1e-9, f"{name} ({part.method}) is off by {error:.1e}: {part.values} instead of {expected}"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_certificate_accepts_exactly_the_groups_in_which_the_outputs_are_affine(kind: str) -> None:
    model, x, y, _ = problem(kind)
    diagonal = ish.hessian_diagonal(ish.oracle(model, (x, y)), probes=all_parameters(model))
    refused = {name for name, part in diagonal.groups.items() if part.method != "exact"}
    defects = diagonal.defects
    cancelled = {"0.bias"} if kind == "instance_norm" else set()  # a normalization takes it out again, up to rounding
    assert refused - cancelled == ARCHITECTURES[kind].refused, f"refused {sorted(refused)}; the defects are {defects}"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_gradient_moments_are_those_of_a_loop_over_the_examples(kind: str) -> None:
    model, x, y, _ = problem(kind)
    oracle = ish.oracle(model, (x, y), batch_size=4)
    slopes = []
    for row, label in zip(x, y, strict=True):
        loss = cross_entropy(model(row[None]), label[None]).sum()
        slopes.append(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True, allow_unused=True))
    names = [name for name, _ in model.named_parameters()]
    moments = oracle.gradient_second_moment(oracle.parameters)
    scale = max(float((g**2).max()) for example in slopes for g in example)
    for index, name in enumerate(names):
        expected = torch.stack([example[index] ** 2 for example in slopes]).mean(0)
        error = float((moments[name] - expected).abs().max()) / scale
        assert error <= 1e-12, f"second moments of {name} are off by {error:.1e}"
    products = [
        sum(float((g * p).detach().sum()) for g, p in zip(example, model.parameters(), strict=True))
        for example in slopes
    ]
    value = oracle.directional_second_moment(oracle.parameters, oracle.parameters)
    assert value == pytest.approx(np.mean(np.square(products)), rel=1e-10)


@pytest.mark.parametrize("kind", SMOOTH)
def test_gradient_is_that_of_autograd(kind: str) -> None:
    model, x, y, _ = problem(kind)
    oracle = ish.oracle(model, (x, y), batch_size=4)
    expected = torch.autograd.grad(cross_entropy(model(x), y).mean(), list(model.parameters()))
    gradient = oracle.gradient(oracle.parameters)
    for (name, _), slope in zip(model.named_parameters(), expected, strict=True):
        error = relative_error(gradient[name], slope)
        assert error <= 1e-12, f"the gradient in {name} is off by {error:.1e}"


@pytest.mark.parametrize("kind", SMOOTH)
def test_hessian_vector_product_is_that_of_the_dense_hessian(kind: str) -> None:
    model, x, y, blocks = problem(kind)
    oracle = ish.oracle(model, (x, y), batch_size=4)
    vector = {name: np.cos(np.arange(p.numel()) + 1.0).reshape(p.shape) for name, p in model.named_parameters()}
    product = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(vector))
    for name, row in blocks.items():
        expected = sum(row[other] @ torch.as_tensor(v).reshape(-1) for other, v in vector.items())
        error = relative_error(product[name].reshape(-1), expected)
        assert error <= 1e-8, f"(H v) in {name} is off by {error:.1e}"


def test_row_of_the_padding_token_is_a_constant_in_all_products() -> None:
    model, x, y = ARCHITECTURES["padded_embedding"].problem()
    oracle = ish.oracle(model, (x, y))
    direction = oracle.to_numpy(oracle.parameters)
    whole = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(direction))
    direction["table.weight"][0] = 0
    without = oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy(direction))
    assert (x == 0).any()
    assert float(whole["table.weight"][0].abs().max()) == 0
    assert (whole - without).norm() <= 1e-15 * whole.norm()


@pytest.mark.parametrize("layout", ["channels_last", "strided"])
def test_memory_layout_of_the_inputs_does_not_matter(layout: str) -> None:
    model, x, y = ARCHITECTURES["batch_norm_2d"].problem()
    expected = ish.hessian_diagonal(ish.oracle(model, (x, y)))
    if layout == "channels_last":
        other = x.contiguous(memory_format=torch.channels_last)
    else:
        other = torch.stack([x, -x], dim=-1)[..., 0]
    assert other.stride() != x.stride()
    found = ish.hessian_diagonal(ish.oracle(model, (other, y)))
    for name, part in expected.groups.items():
        error = relative_error(found[name].values, part.values)
        assert error <= 1e-12, f"{name} moved by {error:.1e}"


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.DataParallel])
def test_wrapper_is_taken_off(wrap: Any) -> None:
    model, x, y = ARCHITECTURES["leaky_relu"].problem()
    oracle = ish.oracle(wrap(model), (x, y))
    assert [group.name for group in oracle.groups] == [name for name, _ in model.named_parameters()]
    assert ish.hessian_trace(oracle).value == ish.hessian_trace(ish.oracle(model, (x, y))).value


def test_compiled_part_of_a_model_is_differentiated_twice() -> None:
    model, x, y = ARCHITECTURES["leaky_relu"].problem()
    expected = ish.hessian_spectral_norm(ish.oracle(model, (x, y))).value
    parts = nn.Sequential(torch.compile(model[0], backend="aot_eager"), *model[1:])
    assert ish.hessian_spectral_norm(ish.oracle(parts, (x, y))).value == pytest.approx(expected, rel=1e-6)


def test_operation_without_a_second_derivative_is_named() -> None:
    model = nn.Sequential(nn.EmbeddingBag(5, 4, mode="sum"), nn.Linear(4, 3))
    oracle = ish.oracle(model, (torch.randint(0, 5, (6, 3)), torch.randint(0, 3, (6,))))
    with pytest.raises(ish.InvariantSharpnessError, match=r"embedding_bag_backward.*Replace"):
        ish.hessian_spectral_norm(oracle)


def test_frozen_parameters_are_not_measured_and_change_nothing() -> None:
    model, x, y = ARCHITECTURES["batch_norm"].problem()
    expected = ish.hessian_diagonal(ish.oracle(model, (x, y)))
    for name in ("0.weight", "1.bias", "3.bias"):
        model.get_parameter(name).requires_grad_(requires_grad=False)
    found = ish.hessian_diagonal(ish.oracle(model, (x, y)))
    assert list(found.groups) == ["0.bias", "1.weight", "3.weight"]
    for name, part in found.groups.items():
        assert relative_error(part.values, expected[name].values) <= 1e-12, name


class MixedPrecision(nn.Module):
    """A float32 body with a float64 head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(2, 3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(9, 3).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.relu(self.norm(self.body(x))).flatten(1).double())


def test_parameters_of_mixed_precision_have_the_diagonal_of_a_float64_copy() -> None:
    torch.manual_seed(0)
    model, x, y = MixedPrecision().eval(), torch.randn(9, 2, 4), torch.randint(0, 3, (9,))
    mixed = ish.hessian_diagonal(ish.oracle(model, (x, y)))
    double = ish.hessian_diagonal(ish.oracle(model, (x, y), dtype="float64"))
    for name, part in double.groups.items():
        assert mixed[name].method == part.method == "exact"
        error = relative_error(mixed[name].values, part.values)
        assert error <= 1e-5, f"{name} is off by {error:.1e}"


@pytest.mark.parametrize("kind", ["leaky_relu", "batch_norm_2d", "embedding", "transposed", "sequence"])
def test_exact_diagonal_in_float32_is_close_to_float64(kind: str) -> None:
    model, x, y = ARCHITECTURES[kind].problem()
    single = ish.hessian_diagonal(ish.oracle(model, (x, y), dtype="float32"))
    double = ish.hessian_diagonal(ish.oracle(model, (x, y)))
    for name, part in double.groups.items():
        assert single[name].method == "exact", f"{name} was refused in float32: defect {single.defects[name]}"
        error = relative_error(single[name].values, part.values)
        assert error <= 1e-5, f"{name} is off by {error:.1e}"


def test_gradient_hooks_of_training_do_not_reach_the_derivatives() -> None:
    model, x, y, blocks = problem("leaky_relu")
    handle = model[0].weight.register_hook(torch.zeros_like)
    try:
        oracle = ish.oracle(model, (x, y))
        column = oracle.hessian_vector_product(oracle.parameters, oracle.parameters)
        diagonal = ish.hessian_diagonal(oracle)
    finally:
        handle.remove()
    assert float(column["0.weight"].norm()) > 0
    assert relative_error(diagonal["0.weight"].values.ravel(), blocks["0.weight"]["0.weight"].diagonal()) <= 1e-10


def test_surrounding_autocast_does_not_lower_the_precision() -> None:
    model, x, y = ARCHITECTURES["leaky_relu"].problem()
    expected = ish.hessian_trace(ish.oracle(model, (x, y), dtype="float32")).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ish.hessian_trace(ish.oracle(model, (x, y), dtype="float32")).value == expected


def test_first_example_that_switches_all_units_off_does_not_hide_a_second_use() -> None:
    model, x, y = ARCHITECTURES["weight_outside_of_its_module"].problem()
    x[0] = 0
    with torch.no_grad():
        model.shared.bias.fill_(-1e-3)
    expected = dense_hessian(model, x, y, cross_entropy)["shared.weight"]["shared.weight"].diagonal()
    assert (
        relative_error(ish.hessian_diagonal(ish.oracle(model, (x, y)))["shared.weight"].values.ravel(), expected)
        <= 1e-10
    )


@pytest.mark.parametrize("scale", ["balanced", "optimal"])
def test_draws_of_the_diagonal_transform_as_the_diagonal_does(scale: str) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.LeakyReLU(0.25), nn.Linear(6, 5), nn.LeakyReLU(0.25), nn.Linear(5, 3)
    ).double()
    oracle = ish.oracle(model, (torch.randn(8, 4, dtype=torch.float64), torch.randint(0, 3, (8,))))
    moved, factors = oracle.parameters, np.array([2.0, 0.25, 8.0, 0.5, 1.0, 16.0])
    for rescaling in chain_rescalings(oracle.groups):
        units = 6 if rescaling.incoming[0] == "0.weight" else 5
        moved = rescaling.apply(oracle, moved, factors[:units])
    names = frozenset(group.name for group in oracle.groups)
    first = drawn(oracle, scale, names)
    second = drawn(ish.Moved(oracle, moved), scale, names)
    ratios = oracle.to_numpy(oracle.parameters / moved)
    for name in names:
        error = relative_error(second[name] / ratios[name] ** 2, first[name])
        assert error <= 1e-10, f"draws of {name} moved by {error:.1e}"


def drawn(oracle: ish.CurvatureOracle, scale: str, names: frozenset[str]) -> dict[str, np.ndarray]:
    if scale == "balanced":
        return probe_means(oracle, names, balanced(oracle), [range(4)], 0)
    pilot = probe_means(oracle, names, balanced(oracle), [range(4)], 0)
    return probe_means(oracle, names, optimal(oracle, {k: v.mean(0) for k, v in pilot.items()}), [range(4, 8)], 0)
