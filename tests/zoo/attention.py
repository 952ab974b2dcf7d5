"""A block of attention with two heads and a layer of ReLUs, and what leaves its outputs alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

import invariant_sharpness as ish

WIDTH, COUNT, HEAD_WIDTH, CLASSES, EXAMPLES, TOKENS = 6, 2, 3, 3, 30, 4
HEADS = {
    "query.weight": ish.Heads(COUNT),
    "key.weight": ish.Heads(COUNT),
    "value.weight": ish.Heads(COUNT),
    "out.weight": ish.Heads(COUNT, "input"),
}


class Attention(nn.Module):
    """Two heads with biases and a residual connection, a dense layer, and a classifier of the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out, self.inner = (nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part(x).unflatten(-1, (COUNT, HEAD_WIDTH)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        mixed = (q @ k.mT / HEAD_WIDTH**0.5).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return self.head(torch.relu(self.inner(x)).mean(1))


@cache
def problem() -> tuple[Attention, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Attention().double()
    return model, torch.randn(EXAMPLES, TOKENS, WIDTH, dtype=torch.float64), torch.arange(EXAMPLES) % CLASSES


def oracle(**options: Any) -> Any:
    model, x, y = problem()
    return ish.oracle(model, (x, y), **options)


def in_another_basis(base: Any, seed: int) -> ish.Moved:
    """An invertible matrix into the queries and values of each head, and what undoes it into the keys and the output."""
    rng, p = np.random.default_rng(seed), base.to_numpy(base.parameters)
    for head in range(COUNT):
        C, D = rng.normal(size=(2, HEAD_WIDTH, HEAD_WIDTH))
        units = slice(HEAD_WIDTH * head, HEAD_WIDTH * (head + 1))
        for name, matrix in (("query", C), ("key", np.linalg.inv(C).T), ("value", D)):
            for kind in ("weight", "bias"):
                p[f"{name}.{kind}"][units] = matrix @ p[f"{name}.{kind}"][units]
        p["out.weight"][:, units] = p["out.weight"][:, units] @ np.linalg.inv(D)
    return ish.Moved(base, base.from_numpy(p))


def rescaled(base: Any) -> ish.Moved:
    """Every hidden unit after the attention, and every dimension within a head, times a power of two."""
    rng, p = np.random.default_rng(7), base.to_numpy(base.parameters)
    a, b, c = (np.ldexp(1.0, rng.integers(-9, 10, WIDTH)) for _ in range(3))
    for into, out_of, factors in (("inner", "head", a), ("value", "out", b), ("query", None, c), ("key", None, 1 / c)):
        p[f"{into}.weight"] *= factors[:, None]
        p[f"{into}.bias"] *= factors
        if out_of is not None:
            p[f"{out_of}.weight"] /= factors
    return ish.Moved(base, base.from_numpy(p))
