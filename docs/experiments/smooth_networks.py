"""Small smooth networks for scikit-learn's digits, of the kinds that people train: 1,000 to 3,500 parameters each.

An image is a sequence of eight rows, or has one channel of 8 x 8.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

WIDTH, HIDDEN, CLASSES = 10, 14, 10


def perceptron(activation: Callable[[], nn.Module], *sizes: int) -> nn.Module:
    """Dense layers on the 64 pixels."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip((64, *sizes), sizes, strict=False):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], CLASSES))


def convolutional() -> nn.Module:
    """Three convolutions, each normalized in groups of channels."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        *(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU()),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(4, 8), nn.GELU()),
        *(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.GroupNorm(3, 12), nn.GELU()),
        *(nn.Flatten(), nn.Linear(48, CLASSES)),
    )


class Encoder(nn.Module):
    """A layer of ``torch.nn`` on the embedded rows, with norms before or after attention and perceptron."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": norm_first}
        self.embed, self.places = nn.Linear(8, WIDTH), nn.Parameter(torch.randn(8, WIDTH) / 4)
        self.layer, self.head = nn.TransformerEncoderLayer(WIDTH, 2, HIDDEN, **options), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embed(x) + self.places).mean(1))


class CausalBlock(nn.Module):
    """Attention to what came before, and a gated perceptron, each behind a root mean square norm."""

    def __init__(self) -> None:
        super().__init__()
        self.queries_keys_values, self.output = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)
        self.gate, self.up = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.queries_keys_values(self.norm1(x)).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(-2))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """Reads the rows one after the other, and answers at the last."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Linear(8, WIDTH), CausalBlock()
        self.norm, self.head = nn.RMSNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.block(self.embed(x))[:, -1]))


class CrossAttention(nn.Module):
    """Three learned queries look at the rows, and a perceptron at what they saw."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.embed = nn.Parameter(torch.randn(1, 3, WIDTH)), nn.Linear(8, WIDTH)
        self.attention, self.norm = nn.MultiheadAttention(WIDTH, 2, batch_first=True), nn.LayerNorm(WIDTH)
        self.up, self.head = nn.Linear(3 * WIDTH, 2 * HIDDEN), nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, queries = torch.tanh(self.embed(x)), self.queries.expand(len(x), -1, -1)
        seen = queries + self.attention(queries, rows, rows, need_weights=False)[0]
        return self.head(functional.gelu(self.up(self.norm(seen).flatten(1))))


class Recurrent(nn.Module):
    """The rows come one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class SqueezeExcitation(nn.Module):
    """A residual block of convolutions whose channels are weighted by what all positions say."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.stem(x[:, None]))
        y = functional.silu(self.conv(x))
        weights = self.excite(functional.silu(self.squeeze(y.mean((2, 3))))).sigmoid()
        return self.head((x + y * weights[:, :, None, None]).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "GELU perceptron": lambda: perceptron(nn.GELU, 32, 32),
    "SiLU perceptron": lambda: perceptron(nn.SiLU, 16, 12, 12),
    "convolutions, group norm": convolutional,
    "pre-norm encoder": lambda: Encoder(norm_first=True),
    "post-norm encoder": lambda: Encoder(norm_first=False),
    "causal, RMS norm, SwiGLU": Decoder,
    "cross-attention": CrossAttention,
    "LSTM": Recurrent,
    "squeeze-and-excitation": SqueezeExcitation,
}
