"""Language models: padded and packed sequences, activation checkpointing, weights in half precision, products over a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.losses import chunks
from invariant_sharpness.testing import check_oracle

TEXTS, TOKENS, WORDS, WIDTH = 3, 5, 11, 6


class LanguageModel(nn.Module):
    """Words, a causal mean over those before, a block with a residual path, and a head."""

    def __init__(self, *, checkpointed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.block = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))
        self.checkpointed = checkpointed

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.words(input_ids)
        counts = torch.arange(1, input_ids.shape[1] + 1, device=hidden.device)[:, None].to(hidden.dtype)
        hidden = hidden.cumsum(1) / counts
        block = checkpoint(self.block, hidden, use_reentrant=False) if self.checkpointed else self.block(hidden)
        return self.head(hidden + block)


def tokens() -> dict[str, torch.Tensor]:
    """The last text is padded, and the second is two packed ones: no label is predicted across their border."""
    torch.manual_seed(1)
    ids = torch.randint(0, WORDS, (TEXTS, TOKENS))
    labels = ids.clone()
    labels[1, 2], labels[2, 3:] = -100, -100
    return {"input_ids": ids, "labels": labels}


def oracle(model: nn.Module) -> Any:
    return ish.oracle(model, tokens(), "next_token_cross_entropy")


def losses(model: nn.Module, data: dict[str, torch.Tensor]) -> torch.Tensor:
    outputs, labels = model(data["input_ids"])[:, :-1], data["labels"][:, 1:]
    return nn.functional.cross_entropy(outputs.reshape(-1, WORDS), labels.reshape(-1))


def test_padded_and_packed_sequences_have_the_loss_of_torch() -> None:
    model = LanguageModel().double()
    of = oracle(model)
    assert of.loss(of.parameters) == pytest.approx(losses(model, tokens()).item(), rel=1e-13)


@pytest.mark.parametrize("largest", [chunks.LARGEST, 2 * WORDS])
def test_gauss_newton_products_are_those_of_the_dense_jacobian(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LARGEST", largest)
    model, data = LanguageModel().double(), tokens()
    of = oracle(model)
    vector = prng.signs(of, 0, 0)
    product = of.gauss_newton_vector_product(of.parameters, vector)
    named = dict(model.named_parameters())

    def outputs(*arrays: torch.Tensor) -> torch.Tensor:
        called = torch.func.functional_call(model, dict(zip(named, arrays, strict=True)), (data["input_ids"],))
        return called[:, :-1].reshape(-1, WORDS)

    rows = outputs(*named.values()).detach()
    _, along = torch.func.jvp(outputs, tuple(named.values()), tuple(vector[name] for name in named))
    p, counted = torch.softmax(rows, 1), (data["labels"][:, 1:].reshape(-1, 1) >= 0).double()
    curved = (p * along - p * (p * along).sum(1, keepdim=True)) * counted / counted.sum()
    _, pull = torch.func.vjp(outputs, *named.values())
    for name, expected in zip(named, pull(curved), strict=True):
        assert torch.allclose(product[name], expected, rtol=1e-10, atol=1e-13), f"{name} is off"


def test_checkpointed_activations_change_no_derivative() -> None:
    plain, of = oracle(LanguageModel().double()), oracle(LanguageModel(checkpointed=True).double())
    point, vector = of.parameters, prng.signs(of, 0, 0)
    names = frozenset(group.name for group in of.groups)
    pairs = {
        "gradient": (of.gradient(point), plain.gradient(point)),
        "Hessian": (of.hessian_vector_product(point, vector), plain.hessian_vector_product(point, vector)),
        "Gauss-Newton": (
            of.gauss_newton_vector_product(point, vector),
            plain.gauss_newton_vector_product(point, vector),
        ),
        "samples": tuple(o.sampled_gauss_newton_diagonal(point, names, range(2), 0) for o in (of, plain)),
    }
    for what, (found, expected) in pairs.items():
        assert (found - expected).norm() <= 1e-12 * expected.norm(), f"{what} is off"


def test_checkpointed_model_is_measured_as_the_plain_one() -> None:
    values = [
        ish.hessian_trace(oracle(LanguageModel(checkpointed=on).double()), probes=8).value for on in (False, True)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-10), f"{values}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_half_precision_are_in_single_precision(dtype: torch.dtype) -> None:
    model = LanguageModel().to(dtype)
    exact = LanguageModel().to(dtype).double()
    half, double = oracle(model), oracle(exact)
    gradient, expected = half.gradient(half.parameters), double.gradient(double.parameters)
    assert {array.dtype for array in gradient.arrays.values()} == {torch.float32}, "a sum is in half precision"
    eps = torch.finfo(dtype).eps
    assert half.loss(half.parameters) == pytest.approx(double.loss(double.parameters), rel=8 * eps)
    off = np.sqrt(sum(float(((gradient[n].double() - a) ** 2).sum()) for n, a in expected.arrays.items()))
    assert off <= 8 * eps * expected.norm(), (
        f"the gradient is off by {off / expected.norm() / eps:.1f} machine epsilons"
    )


WEIGHTED: dict[str, tuple[Any, Any, tuple[int, ...]]] = {
    "next tokens": ("next_token_cross_entropy", lambda z: z, (TEXTS, TOKENS)),
    "texts": ("next_token_cross_entropy", lambda z: z, (TEXTS,)),
    "classes on axis one": (nn.CrossEntropyLoss(), lambda z: z.mT, (TEXTS, TOKENS)),
}
weighted = pytest.mark.parametrize("kind", WEIGHTED)


def weighted_oracle(kind: str, model: nn.Module) -> tuple[Any, torch.Tensor]:
    """The oracle of a weighted loss, and the weights in the mean, one for each label that is predicted."""
    loss, arranged, shape = WEIGHTED[kind]
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return arranged(model(batch["input_ids"])), batch["labels"], weights

    counted = (labels_of(kind) >= 0).double()
    everywhere = (weights.reshape(TEXTS, -1) * torch.ones(TEXTS, TOKENS))[:, : counted.shape[1]]
    return ish.oracle(model, tokens(), loss, forward=forward), everywhere * counted / counted.sum()


def labels_of(kind: str) -> torch.Tensor:
    return tokens()["labels"][:, 1:] if WEIGHTED[kind][0] == "next_token_cross_entropy" else tokens()["labels"]


@weighted
def test_weights_of_tokens_multiply_their_losses(kind: str) -> None:
    """In the value and in products with the Hessian, against the weighted sum that torch differentiates twice."""
    model, labels = LanguageModel().double(), labels_of(kind)
    of, each = weighted_oracle(kind, model)
    vector, named = prng.signs(of, 0, 0), dict(model.named_parameters())

    def mean(*arrays: torch.Tensor) -> torch.Tensor:
        called = (dict(zip(named, arrays, strict=True)), (tokens()["input_ids"],))
        z = torch.func.functional_call(model, *called)[:, : labels.shape[1]]
        return -(each * z.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]).sum()

    at, along = tuple(named.values()), tuple(vector[name] for name in named)
    _, product = torch.func.jvp(torch.func.grad(mean, argnums=tuple(range(len(named)))), at, along)
    assert of.loss(of.parameters) == pytest.approx(mean(*at).item(), rel=1e-13)
    found = of.hessian_vector_product(of.parameters, vector)
    for name, expected in zip(named, product, strict=True):
        assert torch.allclose(found[name], expected, rtol=1e-10, atol=1e-13), f"{name} is off"


@weighted
def test_weights_of_tokens_are_in_all_derivatives(kind: str) -> None:
    """Exact, sampled and closed forms of the Gauss-Newton matrix and of the residual part belong to the weighted loss."""
    results = check_oracle(weighted_oracle(kind, LanguageModel().double())[0])
    failed = [result for result in results if result.status == "failed"]
    assert not failed, f"{failed}"


def test_weights_that_fit_nothing_are_named() -> None:
    def forward(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return model(batch["input_ids"]), batch["labels"], torch.rand(TEXTS, TOKENS - 1)

    with pytest.raises(ish.errors.DataError, match=r"sample weights have shape \(3, 4\) for 3 examples"):
        ish.oracle(LanguageModel(), tokens(), "next_token_cross_entropy", forward=forward)
