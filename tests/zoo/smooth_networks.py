"""Small float64 networks with smooth nonlinearities, each with the parameters that belong to no layer which every example passes once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from zoo.architectures import Composed
from zoo.functional_networks import attention, plain_functions, positions, transformer

Tensor = torch.Tensor


@dataclass(frozen=True)
class Case:
    """How to build a network of 3 outputs, what it takes, and what is outside of layers."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    outside: frozenset[str] = frozenset()
    tokens: int | None = None

    def problem(self, examples: int = 7) -> tuple[nn.Module, Tensor, Tensor]:
        torch.manual_seed(2)
        model = self.build().double().eval()
        size = (examples, *self.shape)
        x = torch.randn(size, dtype=torch.float64) if self.tokens is None else torch.randint(0, self.tokens, size)
        return model, x, torch.randint(0, 3, (examples,))


def linear(*names: str, width: int = 6, bias: bool = True) -> dict[str, nn.Module]:
    return {name: nn.Linear(width, width, bias=bias) for name in names}


def attended(s: Any, queries: Tensor, x: Tensor, *, causal: bool = False) -> Tensor:
    scores = s.query(queries) @ s.key(x).mT / 2
    if causal:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf).triu(1).to(scores)
    return s.output(scores.softmax(-1) @ s.value(x))


ATTENTION = ("query", "key", "value", "output")


def encoder(*, normalized_before: bool) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.embed(x)
        if normalized_before:
            y = s.norm1(x)
            x = x + attended(s, y, y)
            x = x + s.down(functional.gelu(s.up(s.norm2(x))))
        else:
            x = s.norm1(x + attended(s, x, x))
            x = s.norm2(x + s.down(functional.gelu(s.up(x))))
        return s.head(x.mean(1))

    norms = {"norm1": nn.LayerNorm(6), "norm2": nn.LayerNorm(6)}
    return Composed(forward, embed=nn.Linear(4, 6), **linear(*ATTENTION, "up", "down"), **norms, head=nn.Linear(6, 3))


def decoder() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.embed(x)
        y = s.norm1(x)
        x = x + attended(s, y, y, causal=True)
        y = s.norm2(x)
        return s.head((x + s.down(functional.silu(s.gate(y)) * s.up(y)))[:, -1])

    parts = linear(*ATTENTION, "gate", "up", "down", bias=False)
    return Composed(
        forward, embed=nn.Embedding(9, 6), norm1=nn.RMSNorm(6), norm2=nn.RMSNorm(6), **parts, head=nn.Linear(6, 3)
    )


def crossed() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.embed(x)
        return s.head(functional.gelu(attended(s, s.latents, x)).mean(1))

    latents = nn.Parameter(torch.randn(2, 6))
    return Composed(forward, embed=nn.Linear(4, 6), latents=latents, **linear(*ATTENTION), head=nn.Linear(6, 3))


def convolution() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = functional.silu(s.norm(s.first(x)))
        x = x * s.expand(functional.silu(s.squeeze(x.mean((2, 3))))).sigmoid()[:, :, None, None]
        return s.head(functional.gelu(s.second(x)).mean((2, 3)))

    parts = {"squeeze": nn.Linear(4, 2), "expand": nn.Linear(2, 4), "second": nn.Conv2d(4, 4, 2, groups=2)}
    return Composed(forward, first=nn.Conv2d(2, 4, 2), norm=nn.GroupNorm(2, 4), **parts, head=nn.Linear(4, 3))


def hooked() -> nn.Module:
    """A layer whose outputs a hook replaces."""
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    model[0].register_forward_hook(lambda _module, _inputs, output: torch.tanh(output))
    return model


def recurrent() -> nn.Module:
    return Composed(
        lambda s, x: s.head(functional.gelu(s.wide(s.cell(x)[0][:, -1]))),
        cell=nn.LSTM(4, 3, batch_first=True),
        wide=nn.Linear(3, 5),
        head=nn.Linear(5, 3),
    )


CELL = frozenset({"cell.weight_hh_l0", "cell.bias_hh_l0"})
"""What goes from step to step: the inputs of all steps are multiplied at once."""

CASES: dict[str, Case] = {
    "gelu": Case(lambda: nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 3)), (4,)),
    "convolution": Case(convolution, (2, 4, 4)),
    "encoder": Case(lambda: encoder(normalized_before=True), (3, 4)),
    "post-norm encoder": Case(lambda: encoder(normalized_before=False), (3, 4)),
    "decoder": Case(decoder, (4,), tokens=9),
    "cross-attention": Case(crossed, (3, 4), frozenset({"latents", "query.weight", "query.bias"})),
    "recurrent": Case(recurrent, (3, 4), CELL),
    "hooked": Case(hooked, (4,)),
    "torch's encoder": Case(lambda: transformer(examples_first=True), (3, 4)),
    "torch's encoder, positions first": Case(lambda: transformer(examples_first=False), (3, 4)),
    "torch's attention to others": Case(lambda: attention(values="keys"), (3, 4)),
    "torch's attention, other values": Case(lambda: attention(values="other"), (3, 4)),
    "torch's attention, narrow keys": Case(lambda: attention(values="narrow"), (3, 4)),
    "tables of positions": Case(positions, (4,), tokens=5),
    "plain functions": Case(plain_functions, (3, 4), frozenset({"temperature"})),
}
