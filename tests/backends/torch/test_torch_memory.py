"""What keeps memory small changes no value: microbatches, the memory limit, and activation checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import NonFiniteError
from zoo.torch_networks import random_problem

MATCHING = 1e-11


class Forgetful(nn.Module):
    """A chain of layers that forgets its activations, all but those between two parts, and computes them again."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in (self.layers[:3], self.layers[3:]):
            x = checkpoint(part, x, use_reentrant=False)
        return x


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(2, 4, 3, padding=1), nn.LayerNorm(8), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.GELU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(108, 3)).double()


def everything(oracle: ish.CurvatureOracle) -> dict[str, Any]:
    able, point = ish.protocol.require(oracle, ish.protocol.GaussNewtonDiagonalOracle, metric="test"), oracle.parameters
    names, vectors = frozenset(point.arrays), [prng.signs(oracle, 0, k) for k in range(3)]
    return {
        "gradient": [oracle.gradient(point)],
        "product": [oracle.hessian_vector_product(point, vectors[0])],
        "block": oracle.hessian_vector_products(point, vectors),
        "Gauss-Newton product": [oracle.gauss_newton_vector_product(point, vectors[0])],
        "diagonal": [able.gauss_newton_diagonal(point, names)],
        "sampled diagonal": [oracle.sampled_gauss_newton_diagonal(point, names, range(3), 0)],
        "second moments": [oracle.gradient_second_moment(point)],
        "output curvature": able.output_curvature(point, vectors[0], 0),
    }


def assert_same(ours: ish.CurvatureOracle, theirs: ish.CurvatureOracle) -> None:
    assert_equal(everything(ours), everything(theirs))


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for what in expected:
        for a, b in zip(found[what], expected[what], strict=True):
            moved = list(zip(a.arrays.values(), b.arrays.values(), strict=True))
            error = sum(float((x - y).norm()) for x, y in moved)
            assert error <= MATCHING * b.norm(), f"{what}: error {error:.1e} in {b.norm():.1e}"


def test_activation_checkpointing_changes_nothing() -> None:
    chain, x, y = layers(), torch.randn(9, 2, 8, 8, dtype=torch.float64), torch.arange(9) % 3
    assert_same(ish.oracle(Forgetful(chain), (x, y)), ish.oracle(chain, (x, y)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_activation_checkpointing_changes_nothing_in_half_precision() -> None:
    """The functions whose sums are made in single precision run again in the backward pass."""
    chain, x, y = layers().bfloat16(), torch.randn(9, 2, 8, 8), torch.arange(9) % 3
    forgetful, plain = (ish.oracle(model, (x, y)) for model in (Forgetful(chain), chain))
    a, b = forgetful.gradient(forgetful.parameters), plain.gradient(plain.parameters)
    different = [n for n, m in zip(a.arrays, b.arrays, strict=True) if not torch.equal(a[n], b[m])]
    assert not different, f"the gradient differs in {different}"


@pytest.mark.parametrize("size", [1, 4, 16])
def test_microbatches_of_a_loader_change_nothing(size: int) -> None:
    model, x, y = random_problem("cnn", examples=35)
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    whole, pieces = ish.oracle(model, loader), ish.oracle(model, loader, microbatch=size)
    assert_same(pieces, whole)


@pytest.mark.parametrize("size", [1, 5000, 20000])
def test_pieces_within_the_memory_limit_change_nothing(size: int) -> None:
    model, x, y = random_problem("cnn", examples=35)
    oracle = ish.oracle(model, (x, y), batch_size=16)
    expected = everything(oracle)
    with ish.memory_limit(size):
        assert_equal(everything(oracle), expected)


def test_batches_are_cut_into_pieces_that_fit_into_the_memory_limit() -> None:
    """Saved for an example, in double precision: 10 inputs, 20 activations, and no outputs of the squared error's network."""
    model, seen = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3)).double(), list[int]()
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(len(output)))
    oracle = ish.oracle(model, (torch.randn(40, 10), torch.randn(40, 3)), loss="mse")
    seen.clear()
    with ish.memory_limit(4 * 30 * 8 * 16):
        oracle.gradient(oracle.parameters)
    assert seen == [16, 16, 8], f"the model saw pieces of {seen} examples"


def test_an_example_is_named_by_its_place_in_the_batch() -> None:
    """Batches are computed in pieces of two examples, and each example has two rows of the loss; the outputs of one overflow."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Unflatten(1, (2, 3))).double()
    seen: list[int] = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(len(output)))
    x, y = torch.ones(2, 7, 4, dtype=torch.float64), torch.zeros(7, 2, dtype=torch.int64)
    x[1, 5] = 1e200
    oracle = ish.oracle(model, [(x[0], y), (x[1], y)])
    seen.clear()
    per_example = 4 * 8  # an input is all that is saved
    with ish.memory_limit(4 * 2 * per_example), pytest.raises(NonFiniteError, match="loss of example 5 in batch 1 is"):
        oracle.loss(1e200 * oracle.parameters)
    assert max(seen) == 2, f"the model saw pieces of {seen} examples"


class OwnDerivative(nn.Module):
    """A layer whose activation is the derivative of a cube, by torch.func, which lets nobody see what is saved."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slopes = torch.func.vmap(torch.func.grad(lambda row: (row**3).sum()))(self.layers[0](x))
        return self.layers[1](slopes)


def test_models_with_torch_func_are_measured_batch_by_batch() -> None:
    """Against the same activation as a formula."""
    torch.manual_seed(0)
    model = OwnDerivative(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).double())
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3

    def plain(_model: nn.Module, batch: Any) -> Any:
        return model.layers[1](3 * model.layers[0](batch[0]) ** 2), batch[1]

    found, expected = (ish.hessian_trace(ish.oracle(model, (x, y), **options)) for options in ({}, {"forward": plain}))
    assert found.value == pytest.approx(expected.value, rel=MATCHING), f"{found.value} and {expected.value}"


def test_microbatches_are_what_the_model_sees() -> None:
    model, x, y = random_problem("mlp", examples=35)
    seen: list[int] = []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(len(output)))
    oracle = ish.oracle(model, [{"x": x, "labels": y}], microbatch=16, forward=lambda m, b: (m(b["x"]), b["labels"]))
    seen.clear()
    oracle.gradient(oracle.parameters)
    assert seen == [16, 16, 3], f"the model saw batches of {seen} examples"


def test_microbatch_of_nothing_is_refused() -> None:
    model, x, y = random_problem("mlp")
    with pytest.raises(ish.InvariantSharpnessError, match="microbatch=0, but a batch has at least one example"):
        ish.oracle(model, (x, y), microbatch=0)


def test_the_memory_limit_bounds_the_gradients_of_single_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a layer on sequences, a gradient of 200 x 300 numbers for each of the examples."""
    model, x, y = (
        nn.Sequential(nn.Linear(300, 200), nn.Flatten()).double(),
        torch.randn(40, 2, 300),
        torch.arange(40),
    )
    oracle = ish.oracle(model, (x, y))
    expected = oracle.gradient_second_moment(oracle.parameters)
    largest = 0

    def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        product = a.matmul(b)
        largest = max(largest, product.numel()) if a.ndim == 3 else largest
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", matmul)
    with ish.memory_limit(8 * 60000 * 7):
        found = oracle.gradient_second_moment(oracle.parameters)
    error = (found - expected).norm() / expected.norm()
    assert largest == 60000 * 7, f"gradients of {largest / 60000} examples at once"
    assert error <= MATCHING, f"relative error {error:.1e}"
