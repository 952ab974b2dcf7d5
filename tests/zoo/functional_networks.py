"""Smooth networks whose layers are functions of parameters, or of parts of them: attention of torch, and modules of users."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from zoo.architectures import Composed

Tensor = torch.Tensor


def transformer(*, examples_first: bool) -> nn.Module:
    """A layer of ``nn.TransformerEncoderLayer``, on examples or on positions first."""

    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.embed(x)
        return s.head(s.layer(x).mean(1) if examples_first else s.layer(x.transpose(0, 1)).mean(0))

    layer = nn.TransformerEncoderLayer(
        6, 2, 8, dropout=0.0, activation="gelu", batch_first=examples_first, norm_first=examples_first
    )
    return Composed(forward, embed=nn.Linear(4, 6), layer=layer, head=nn.Linear(6, 3))


def attention(*, values: str) -> nn.Module:
    """``nn.MultiheadAttention`` with queries of their own; values are the keys, others, or of another width."""

    def forward(s: Any, x: Tensor) -> Tensor:
        keys = x if values == "narrow" else s.embed(x)
        found, _ = s.attention(s.queries(x[:, :2]), keys, keys.tanh() if values == "other" else keys)
        return s.head(found.mean(1))

    width = 4 if values == "narrow" else None
    part = nn.MultiheadAttention(6, 2, batch_first=True, kdim=width, vdim=width)
    embed = {} if values == "narrow" else {"embed": nn.Linear(4, 6)}
    return Composed(forward, queries=nn.Linear(4, 6), **embed, attention=part, head=nn.Linear(6, 3))


def plain_functions() -> nn.Module:
    """Products, factors, summands, tables and convolutions of parameters that no module owns."""

    def forward(s: Any, x: Tensor) -> Tensor:
        y = x @ s.first + s.shift + functional.embedding((2 * x[..., 0].abs()).long().clamp(max=6), s.table)
        y = torch.cat([s.token.expand(len(x), -1, -1), y.tanh() * s.gain + s.place], 1)
        y = functional.layer_norm(y, (5,), s.norm_gain, s.norm_shift)
        y = torch.einsum("ntd,de->nte", y, s.mix).tanh()
        y = functional.conv2d(torch.stack([y, y**2], 1), s.kernel, s.offset, padding=1, groups=2)[..., :5].sum(1)
        y = (y + functional.linear(y, s.packed[:5]).sigmoid() * functional.linear(y, s.packed[5:])).tanh()
        return functional.linear((s.strength * y[:, 0]).tanh(), s.last) * s.temperature.exp()

    shapes = {
        "first": (4, 5), "shift": (5,), "table": (7, 5), "token": (1, 1, 5), "gain": (5,), "place": (3, 5),
        "norm_gain": (5,), "norm_shift": (5,), "mix": (5, 5), "kernel": (2, 1, 3, 2), "offset": (2,),
        "packed": (10, 5), "strength": (), "last": (3, 5), "temperature": (),
    }  # fmt: skip
    return Composed(forward, **{name: nn.Parameter(torch.randn(shape) / 2) for name, shape in shapes.items()})


def positions() -> nn.Module:
    """Tables of positions, of which all examples get the same rows, beside one of tokens."""

    def forward(s: Any, x: Tensor) -> Tensor:
        numbers = torch.arange(x.shape[1])
        y = s.tokens(x) + s.places(numbers[None]) + s.others(numbers.flip(0))
        return s.head(s.mixed(functional.gelu(y)).tanh().mean(1))

    tables = {"tokens": nn.Embedding(5, 6), "places": nn.Embedding(4, 6), "others": nn.Embedding(6, 6)}
    return Composed(forward, **tables, mixed=nn.Linear(6, 6), head=nn.Linear(6, 3))
