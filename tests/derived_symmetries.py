"""Networks whose rescaling symmetries can be derived by hand, written down as they print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Example:
    """A network, the shape of its inputs (all but the first, the number of examples), and what leaves it alone.

    ``idle`` counts rows and columns that do not act on the outputs.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    symmetries: set[str]
    idle: int = 0
    tokens: int = 0

    def inputs(self) -> torch.Tensor:
        """Eight of them."""
        generator = torch.Generator().manual_seed(1)
        if self.tokens:
            return torch.randint(0, self.tokens, (8, *self.shape), generator=generator)
        return torch.randn(8, *self.shape, generator=generator, dtype=torch.float64)

    def model(self) -> nn.Module:
        """In double precision and eval mode, with random parameters and random statistics of batch norms."""
        torch.manual_seed(0)
        model = self.build().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model


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


class GainedBranch(nn.Module):
    """A branch with a small gain for each channel, as in ConvNeXt, beside a stream that tanh fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer, self.head = (
            nn.Linear(4, 6),
            nn.Linear(6, 5),
            nn.Linear(5, 6),
            nn.Linear(6, 3),
        )
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


CHAIN = {f"0.weight[{i}], 0.bias[{i}] up, 2.weight[:, {i}] down" for i in range(6)} | {
    f"2.weight[{i}], 2.bias[{i}] up, 4.weight[:, {i}] down" for i in range(5)
}

EXAMPLES = {
    "perceptron": Example(lambda: perceptron(nn.ReLU), (4,), CHAIN),
    "leaky perceptron": Example(lambda: perceptron(nn.LeakyReLU), (4,), CHAIN),
    "perceptron of tanh": Example(lambda: perceptron(nn.Tanh), (4,), set()),
    "perceptron of GELU": Example(lambda: perceptron(nn.GELU), (4,), set()),
    "perceptron without biases": Example(
        lambda: perceptron(nn.ReLU, bias=False),
        (4,),
        {f"0.weight[{i}] up, 2.weight[:, {i}] down" for i in range(6)}
        | {f"2.weight[{i}] up, 4.weight[:, {i}] down" for i in range(5)},
    ),
    "one layer": Example(lambda: nn.Linear(4, 3), (4,), set()),
    "residual": Example(
        Residual,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, outer.weight[:, {i}] down" for i in range(5)}
        | {
            f"stem.weight[{k}], stem.bias[{k}], outer.weight[{k}], outer.bias[{k}] up, "
            f"inner.weight[:, {k}], head.weight[:, {k}] down"
            for k in range(6)
        },
    ),
    "gained branch": Example(
        GainedBranch,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, outer.weight[:, {i}] down" for i in range(5)}
        | {f"gain[{k}] up, outer.weight[{k}], outer.bias[{k}] down" for k in range(6)},
    ),
    "convolutions with batch norm": Example(
        convolutions_with_batch_norm,
        (2, 6, 6),
        {f"1.weight[{i}], 1.bias[{i}] up, 3.weight[:, {i}] down" for i in range(4)}
        | {f"4.weight[{i}], 4.bias[{i}] up, 8.weight[:, {i}] down" for i in range(3)},
    ),
    "gated": Example(Gated, (4,), {f"up.weight[{i}], up.bias[{i}] up, down.weight[:, {i}] down" for i in range(6)}),
    "product": Example(
        Product,
        (4,),
        {
            f"{name}.weight[{i}], {name}.bias[{i}] up, head.weight[:, {i}] down"
            for name in ("a", "b", "c")
            for i in range(5)
        },
    ),
    "attention": Example(
        Attention,
        (3, 5),
        {f"query.weight[{i}], query.bias[{i}] up, key.weight[{i}] down" for i in range(4)}
        | {f"value.weight[{i}], value.bias[{i}] up, out.weight[:, {i}] down" for i in range(4)},
        idle=4,
    ),
    "fused attention": Example(
        FusedAttention,
        (3, 4),
        {
            f"attention.in_proj_weight[{i}], attention.in_proj_bias[{i}] up, attention.in_proj_weight[{i + 4}] down"
            for i in range(4)
        }
        | {
            f"attention.in_proj_weight[{i + 8}], attention.in_proj_bias[{i + 8}] up, "
            f"attention.out_proj.weight[:, {i}] down"
            for i in range(4)
        }
        | {
            f"attention.out_proj.weight[{i}], attention.out_proj.bias[{i}] up, head.weight[:, {i}] down"
            for i in range(4)
        },
        idle=4,
    ),
    "grouped convolutions": Example(
        grouped_convolutions,
        (2, 6, 6),
        {
            f"0.weight[{i}], 0.bias[{i}] up, 2.weight[{rows}, {column}] down"
            for i, (rows, column) in enumerate([("0:3", 0), ("0:3", 1), ("3:6", 0), ("3:6", 1)])
        }
        | {f"2.weight[{i}], 2.bias[{i}] up, 4.weight[{i}] down" for i in range(6)}
        | {f"4.weight[{i}], 4.bias[{i}] up, 8.weight[:, {i}] down" for i in range(6)},
    ),
    "transposed convolutions": Example(
        transposed_convolutions,
        (2, 4, 4),
        {f"0.weight[:, {i}], 0.bias[{i}] up, 2.weight[{i}] down" for i in range(4)}
        | {
            f"2.weight[{rows}, {column}], 2.bias[{i}] up, 6.weight[:, {9 * i}:{9 * i + 9}] down"
            for i, (rows, column) in enumerate((rows, column) for rows in ("0:2", "2:4") for column in range(3))
        },
    ),
    "squeeze and excitation": Example(
        SqueezeAndExcitation,
        (2, 6, 6),
        {f"first.weight[{i}], first.bias[{i}] up, squeeze.weight[:, {i}], head.weight[:, {i}] down" for i in range(4)}
        | {f"squeeze.weight[{i}], squeeze.bias[{i}] up, excite.weight[:, {i}] down" for i in range(2)},
    ),
    "layer norm": Example(
        LayerNorm,
        (4,),
        {f"norm.weight[{i}], norm.bias[{i}] up, a.weight[:, {i}], b.weight[:, {i}] down" for i in range(5)},
    ),
    "root mean square": Example(
        lambda: root_mean_square(1e-3), (4,), {f"1.weight[{i}] up, 2.weight[:, {i}] down" for i in range(5)}
    ),
    "root mean square without a constant": Example(
        lambda: root_mean_square(0.0),
        (4,),
        {f"1.weight[{i}] up, 2.weight[:, {i}] down" for i in range(5)} | {"0.weight, 0.bias up"},
    ),
    "tied layers": Example(
        TiedLayers,
        (5,),
        {
            f"stem.weight[{i}], stem.bias[{i}], twice.weight[{i}], twice.bias[{i}] up, "
            f"twice.weight[:, {i}], head.weight[:, {i}] down"
            for i in range(6)
        },
    ),
    "tied to the inputs": Example(TiedToTheInputs, (4,), {"head.weight down, twice.weight to the power 0.5"}),
    "tied embedding": Example(
        TiedEmbedding,
        (5,),
        {
            f"words.weight[:, {i}] up, hidden.weight[{i}], hidden.weight[:, {i}], hidden.bias[{i}] down"
            for i in range(4)
        },
        tokens=7,
    ),
    "words": Example(
        Words,
        (5,),
        {f"words.weight[:, {i}] up, hidden.weight[:, {i}] down" for i in range(4)}
        | {f"hidden.weight[{i}], hidden.bias[{i}] up, head.weight[:, {i}] down" for i in range(5)},
        idle=2,
        tokens=7,
    ),
    "recurrent ReLU": Example(
        lambda: Recurrent(nn.RNN, nonlinearity="relu"),
        (5, 3),
        {
            f"cell.weight_ih_l0[{i}], cell.weight_hh_l0[{i}], cell.bias_ih_l0[{i}], cell.bias_hh_l0[{i}] up, "
            f"cell.weight_hh_l0[:, {i}], head.weight[:, {i}] down"
            for i in range(4)
        },
    ),
    "gated recurrent unit": Example(lambda: Recurrent(nn.GRU), (5, 3), set()),
    "long short-term memory": Example(lambda: Recurrent(nn.LSTM), (5, 3), set()),
    "pooled and flattened": Example(
        pooled_and_flattened,
        (1, 6, 6),
        {f"0.weight[{i}], 0.bias[{i}] up, 4.weight[:, {4 * i}:{4 * i + 4}] down" for i in range(3)},
    ),
    "concatenation": Example(
        Concatenation,
        (4,),
        {f"a.weight[{i}], a.bias[{i}] up, head.weight[:, {i}] down" for i in range(2)}
        | {f"b.weight[{i}], b.bias[{i}] up, head.weight[:, {i + 2}] down" for i in range(3)},
    ),
    "squared ReLU": Example(
        lambda: Power(2),
        (4,),
        {f"head.weight[:, {i}] down, inner.weight[{i}], inner.bias[{i}] to the power 0.5" for i in range(5)},
    ),
    "fifth power of ReLU": Example(
        lambda: Power(5),
        (4,),
        {f"head.weight[:, {i}] down, inner.weight[{i}], inner.bias[{i}] to the power 0.2" for i in range(5)},
    ),
    "weight norm": Example(
        WeightNorm,
        (4,),
        {f"direction[{i}] up" for i in range(5)}
        | {f"length[{i}], bias[{i}] up, head.weight[:, {i}] down" for i in range(5)},
    ),
    "cosine": Example(
        Cosine,
        (4,),
        {f"inner.weight[{i}], inner.bias[{i}] up, head.weight[:, {i}] down" for i in range(6)}
        | {"head.weight, head.bias up"},
    ),
    "masked": Example(
        Masked,
        (4,),
        {f"a.weight[{i}], a.bias[{i}] up, b.weight[:, {i}] down" for i in range(6)}
        | {f"b.weight[{i}], b.bias[{i}] up, head.weight[:, {i}] down" for i in range(6)},
    ),
    "dropped out": Example(
        dropped_out, (4,), {f"0.weight[{i}], 0.bias[{i}] up, 3.weight[:, {i}] down" for i in range(6)}
    ),
    "dead input": Example(
        DeadInput,
        (4,),
        {f"layers.0.weight[{i}], layers.0.bias[{i}] up, layers.2.weight[:, {i}] down" for i in range(6)}
        | {f"layers.2.weight[{i}], layers.2.bias[{i}] up, layers.4.weight[:, {i}] down" for i in range(5)},
        idle=1,
    ),
}
