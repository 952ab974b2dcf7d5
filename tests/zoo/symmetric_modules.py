"""Small networks with one kind of layer each, whose rescaling symmetries can be derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


def perceptron(activation: Callable[[], nn.Module], *, bias: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6, bias=bias), activation(), nn.Linear(6, 5, bias=bias), activation(), nn.Linear(5, 3, bias=bias)
    )


class Residual(nn.Module):
    """Two layers beside a stream of six channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(4, 6),
            nn.Linear(6, 5),
            nn.Linear(5, 6),
            nn.Linear(6, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return self.head(x + self.outer(self.inner(x).relu()))


class GainedBranch(Residual):
    """A branch with a small gain for each channel, as in ConvNeXt, beside a stream that tanh fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(1e-6 * (1 + torch.rand(6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).tanh()
        return self.head(x + self.gain * self.outer(self.inner(x).relu()))


class Gated(nn.Module):
    """SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Product(nn.Module):
    """Three factors for each unit."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.a(x) * self.b(x) * self.c(x))


class Attention(nn.Module):
    """One head of width four on three tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Linear(5, 4),
            nn.Linear(5, 4),
            nn.Linear(5, 4),
            nn.Linear(4, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 2
        return self.out(scores.softmax(-1) @ self.value(x)).mean(1)


class FusedAttention(nn.Module):
    """Two heads of width two by torch itself: rows 0 to 3 are queries, 4 to 7 keys, 8 to 11 values."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class SqueezeAndExcitation(nn.Module):
    """Channels that are gated by what is seen in all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.squeeze, self.excite, self.head = (
            nn.Conv2d(2, 4, 3),
            nn.Linear(4, 2),
            nn.Linear(2, 4),
            nn.Linear(4, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return self.head((x * gate[:, :, None, None]).mean((2, 3)))


class LayerNorm(nn.Module):
    """A normalization with two readers."""

    def __init__(self, *, size: float = 1.0) -> None:
        super().__init__()
        self.stem, self.norm, self.a, self.b = nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3), nn.Linear(5, 3)
        self.stem.weight.data *= size
        self.stem.bias.data *= size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        return self.a(x) * self.b(x).tanh()


class TiedLayers(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.twice(self.twice(self.stem(x).relu()).relu()).relu())


class TiedToTheInputs(nn.Module):
    """One layer used twice, which also reads the inputs: these cannot be rescaled, so only all entries can, together."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.twice(self.twice(x).relu()).relu())


class TiedEmbedding(nn.Module):
    """Words in and words out by one table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.hidden(self.words(x).mean(1)).relu(), self.words.weight)


class Words(nn.Module):
    """A table of nine words, of which the data have seven."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(9, 4), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.words(x).mean(1)).relu())


class Recurrent(nn.Module):
    """The last state of a recurrent layer."""

    def __init__(self, cell: Callable[..., nn.Module], **options: str) -> None:
        super().__init__()
        self.cell, self.head = cell(3, 4, batch_first=True, **options), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Concatenation(nn.Module):
    """Two layers side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 2), nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.a(x).relu(), self.b(x).relu()], dim=1))


class Power(nn.Module):
    """A power of ReLU."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power, self.inner, self.head = power, nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(x).relu() ** self.power)


class WeightNorm(nn.Module):
    """Rows as a direction and a length."""

    def __init__(self) -> None:
        super().__init__()
        self.direction, self.length = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.rand(5))
        self.bias, self.head = nn.Parameter(torch.randn(5)), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.direction / self.direction.norm(dim=1, keepdim=True)
        return self.head((functional.linear(x, rows) * self.length + self.bias).relu())


class Cosine(nn.Module):
    """Outputs of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.head(self.inner(x).relu()))


class Masked(nn.Module):
    """A layer of two blocks, the rest of whose weight is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).to(x)
        return self.head(functional.linear(self.a(x).relu(), self.b.weight * mask, self.b.bias).relu())


class DeadInput(nn.Module):
    """An input that is zero in all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = perceptron(nn.ReLU)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x * torch.tensor([1.0, 0.0, 1.0, 1.0]).to(x))


def convolutions_with_batch_norm() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)),
    )


def grouped_convolutions() -> nn.Module:
    """Two groups of two inputs and three outputs, and then six of one each."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU()),
        *(nn.Conv2d(6, 6, 2, groups=6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    )


def transposed_convolutions() -> nn.Module:
    """Kernels of (inputs, outputs); the second one has two groups of two inputs and three outputs."""
    return nn.Sequential(
        *(nn.ConvTranspose2d(2, 4, 2), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 6, 2, groups=2), nn.LeakyReLU(0.1), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(54, 3)),
    )


def pooled_and_flattened() -> nn.Module:
    """Three channels of two by two positions."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3))


def dropped_out() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


def root_mean_square(constant: float) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.RMSNorm(5, eps=constant), nn.Linear(5, 3))
