"""Models whose backward pass is not their derivative, or that change as they compute, are refused when the oracle is built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from doctor_liars import Reversal
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError


class Clipped(torch.autograd.Function):
    """Gradients that are clipped on their way."""

    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.clamp(-0.05, 0.05)


class Doubled(torch.autograd.Function):
    """A right derivative, written by hand: no deceit."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * context.saved_tensors[0].exp()


class Between(nn.Module):
    """Two layers with something between them; or on the way to half of the outputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 5), nn.Linear(5, 2), nn.Linear(5, 2)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        if self.kind == "part":
            return torch.cat([self.second(h), self.third(Reversal.apply(h))], 1)
        return torch.cat([self.second(self.through(h)), self.third(h)], 1)

    def through(self, h: torch.Tensor) -> torch.Tensor:
        rounded = (8 * h).round() / 8
        passed = {
            "reversal": lambda: Reversal.apply(h),
            "clipped": lambda: Clipped.apply(h),
            "straight through": lambda: h + (rounded - h).detach(),
            "sign": lambda: h + (h.sign() - h).detach(),
            "fake quantization": lambda: torch.fake_quantize_per_tensor_affine(h, 0.1, 0, -128, 127),
            "detached": lambda: h.detach(),
            "half detached": lambda: 0.5 * h + 0.5 * h.detach(),
            "right": lambda: Doubled.apply(h),
            "checkpoint": lambda: torch.utils.checkpoint.checkpoint(torch.sin, h, use_reentrant=False),
            "hard": lambda: nn.functional.hardtanh(h, -0.2, 0.3),
            "rounded": lambda: rounded + h,
            "expert": lambda: h * (h == h.max(1, keepdim=True).values),
        }
        return passed[self.kind]()


X, Y = torch.randn(9, 3, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 4
LIARS = ["reversal", "part", "clipped", "straight through", "sign", "fake quantization", "detached", "half detached"]
INNOCENT = ["right", "checkpoint", "hard", "rounded", "expert"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", LIARS)
def test_backward_pass_that_is_no_derivative_is_refused(kind: str, dtype: torch.dtype, seed: int) -> None:
    torch.manual_seed(seed)
    with pytest.raises(ModelError, match=r"that PyTorch computes for this model are not those of its outputs.*freeze"):
        ish.oracle(Between(kind).to(dtype), (X, Y))


@pytest.mark.parametrize("kind", ["reversal", "detached"])
def test_parameters_behind_it_may_be_frozen(kind: str) -> None:
    model = Between(kind).double()
    model.first.requires_grad_(False)
    oracle = ish.oracle(model, (X, Y))
    exact = torch.autograd.functional.hessian(
        lambda w: nn.functional.cross_entropy(
            torch.func.functional_call(model, {"second.weight": w}, (X.double(),)), Y
        ),
        model.second.weight.detach(),
    )
    found = ish.hessian_trace(ish.Restricted(oracle, "second.weight")).value
    assert found == pytest.approx(exact.reshape(10, 10).trace().item(), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", INNOCENT)
def test_right_derivatives_are_not_accused(kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    for dtype in (torch.float32, torch.float64):
        assert ish.oracle(Between(kind).to(dtype), (X, Y)) is not None, dtype


class Words(nn.Module):
    """A table of which the first rows are used, with rows of norm 2 in it."""

    def __init__(self, kind: str, norm: float = 2.0) -> None:
        super().__init__()
        table = nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64)) * norm
        self.kind = kind
        self.table = (
            nn.EmbeddingBag(6, 4, max_norm=1.0, dtype=torch.float64)
            if kind == "bag"
            else nn.Embedding(6, 4, max_norm=1.0 if kind == "embedding" else None, dtype=torch.float64)
        )
        self.table.weight.data = table
        self.head = nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.kind == "function":
            return self.head(nn.functional.embedding(tokens, self.table.weight, max_norm=1.0).mean(1))
        if self.kind == "own":
            with torch.no_grad():
                self.table.weight.clamp_(-0.1, 0.1)
        found = self.table(tokens)
        return self.head(found if self.kind == "bag" else found.mean(1))


TOKENS = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("kind", ["embedding", "bag", "function", "own"])
def test_table_that_rescales_its_rows_is_refused_and_not_changed(kind: str) -> None:
    torch.manual_seed(0)
    model = Words(kind)
    before = model.table.weight.detach().clone()
    words = (
        r"rows of a larger norm than max_norm"
        if kind in ("embedding", "bag")
        else "changes parameter 'table.weight' in"
    )
    with pytest.raises(ModelError, match=words):
        ish.oracle(model, (TOKENS, LABELS))
    assert torch.equal(model.table.weight, before), "rows were rescaled"


def test_advice_for_tables_leads_to_the_right_values() -> None:
    torch.manual_seed(0)
    model = Words("embedding")
    loss = nn.functional.cross_entropy(Words.forward(model, TOKENS), LABELS).item()
    with torch.no_grad():
        model.table.weight.renorm_(model.table.norm_type, 0, model.table.max_norm)
    inside = ish.oracle(model, (TOKENS, LABELS))
    model.table.max_norm = None
    plain = ish.oracle(model, (TOKENS, LABELS))
    for oracle in (inside, plain):
        assert oracle.loss(oracle.parameters) == pytest.approx(loss, rel=1e-6)
    assert ish.hessian_trace(inside).value == pytest.approx(ish.hessian_trace(plain).value, rel=1e-6)


def spectral(kind: str) -> nn.Module:
    layer = nn.Linear(3, 4)
    return {
        "parametrization": nn.utils.parametrizations.spectral_norm,
        "hook": nn.utils.spectral_norm,
        "convolution": lambda _: nn.Sequential(
            nn.Unflatten(1, (1, 3)), nn.utils.parametrizations.spectral_norm(nn.Conv1d(1, 2, 2)), nn.Flatten()
        ),
    }[kind](layer)


@pytest.mark.parametrize("kind", ["parametrization", "hook", "convolution"])
def test_spectral_norm_in_training_is_refused(kind: str) -> None:
    model = nn.Sequential(spectral(kind), nn.Tanh(), nn.Linear(4, 4))
    with pytest.raises(ModelError, match=r"spectral_norm takes a step .*call model.eval\(\)"):
        ish.oracle(model, (X, Y))
    assert ish.oracle(model.eval(), (X, Y)) is not None
