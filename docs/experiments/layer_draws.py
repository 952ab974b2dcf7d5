"""Normalized sharpness of smooth networks by draws at layers, against their exact diagonals.

    python docs/experiments/layer_draws.py [beginning of the titles]

Small encoders, a recurrent and a convolutional network see 256 of scikit-learn's digits, in float64, and are measured untrained and trained. The exact diagonal
is computed column by column.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal

EXAMPLES, SEEDS, WIDTH = 256, 8, 12


class Block(nn.Module):
    """Attention and a gated or plain feed-forward part, with norms before them."""

    def __init__(self, norm: Callable[[int], nn.Module], *, gated: bool) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.gate = nn.Linear(WIDTH, 16) if gated else None
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.output((self.query(y) @ self.key(y).mT / WIDTH**0.5).softmax(-1) @ self.value(y))
        y = self.norm2(x)
        wide = functional.gelu(self.up(y)) if self.gate is None else functional.silu(self.gate(y)) * self.up(y)
        return x + self.down(wide)


class Encoder(nn.Module):
    """The rows of an image are the positions."""

    def __init__(self, blocks: int, norm: Callable[[int], nn.Module], *, gated: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(8, WIDTH)
        self.blocks = nn.Sequential(*(Block(norm, gated=gated) for _ in range(blocks)))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(x)).mean(1))


class TorchEncoder(nn.Module):
    """Layers of ``torch.nn``, whose projections are packed, with a class token and embedded positions."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 10)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(9, WIDTH))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(layers)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.places
        return self.head(self.layers(x)[:, 0])


class Recurrent(nn.Module):
    """The rows of an image come one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.SiLU(),
        nn.Conv2d(6, 8, 3, stride=2, groups=2), nn.GELU(), nn.Flatten(), nn.Linear(72, 10),
    )  # fmt: skip


class Case(NamedTuple):
    """A network and how long it is trained."""

    title: str
    build: Callable[[], nn.Module]
    steps: int
    probes: int = 64


CASES = (
    Case("encoder, untrained", lambda: Encoder(2, nn.LayerNorm, gated=False), 0),
    Case("encoder, trained", lambda: Encoder(2, nn.LayerNorm, gated=False), 250),
    Case("encoder, trained, 32 products", lambda: Encoder(2, nn.LayerNorm, gated=False), 250, 32),
    Case("gated, RMS norm, early", lambda: Encoder(1, nn.RMSNorm, gated=True), 30),
    Case("gated, RMS norm, trained", lambda: Encoder(1, nn.RMSNorm, gated=True), 250),
    Case("encoder of torch, untrained", lambda: TorchEncoder(2), 0),
    Case("encoder of torch, trained", lambda: TorchEncoder(2), 250),
    Case("recurrent, trained", Recurrent, 250),
    Case("convolutions, untrained", convolutional, 0),
    Case("convolutions, trained", convolutional, 250),
)


def trained(case: Case, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
    torch.manual_seed(3)
    model = case.build().double()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(case.steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def exact_diagonal(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> HessianDiagonal:
    """Return the second derivative in each parameter, by one backward pass for each."""
    parameters = dict(model.named_parameters())
    with sdpa_kernel(SDPBackend.MATH):
        loss = functional.cross_entropy(model(x), y)
    slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    groups = {}
    for (name, parameter), slope in zip(parameters.items(), slopes, strict=True):
        entries = [
            torch.autograd.grad(entry, parameter, retain_graph=True)[0].flatten()[index]
            for index, entry in enumerate(slope.flatten())
        ]
        groups[name] = GroupDiagonal(torch.stack(entries).reshape(parameter.shape).numpy(), "exact")
    return HessianDiagonal(groups)


def seconds(function: Callable[[], Any]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    digits = load_digits()
    x = torch.tensor(digits.data[:EXAMPLES] / 8 - 1).reshape(-1, 8, 8)
    y = torch.tensor(digits.target[:EXAMPLES])
    print("| network | weights | error of (17) | 95 % interval | held by | gradients |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case in CASES if not sys.argv[1:] else [case for case in CASES if case.title.startswith(sys.argv[1])]:
        model = trained(case, x, y)
        oracle, exact = ish.oracle(model, (x, y)), exact_diagonal(model, x, y)
        truth = ish.normalized_sharpness(oracle, diagonal=exact).value
        found = [ish.normalized_sharpness(oracle, probes=case.probes, seed=seed) for seed in range(SEEDS)]
        errors = np.array([estimate.value / truth - 1 for estimate in found])
        ends = np.array([estimate.interval() for estimate in found]) / truth - 1
        held = int(((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).sum())
        gradient = min(seconds(lambda o=oracle: o.gradient(o.parameters)) for _ in range(5))
        cost = seconds(lambda o=oracle, c=case: ish.hessian_diagonal(o, probes=c.probes, seed=1)) / gradient
        size = sum(group.size for group in oracle.groups if group.is_weight)
        print(
            f"| {case.title} | {size:,} | {100 * errors.mean():+.2f} ± {100 * errors.std():.2f} % | "
            f"{100 * ends[:, 0].mean():+.1f} to {100 * ends[:, 1].mean():+.1f} % | {held} of {SEEDS} | {cost:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
