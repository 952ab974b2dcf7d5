"""Ordinary networks in single precision, all of them right, for ``doctor.py``.

Images have black pixels, as photographs of clothes or digits have: many inputs are exactly zero. Parameters and data follow from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import invariant_sharpness as ish

Make = Callable[[int], Any]
"""From a seed to an oracle in single precision."""

CLASSES = 5


def images(seed: int, number: int = 96, channels: int = 1, size: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright shapes on black, a class for each of five places: about two thirds of the pixels are zero."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, number)
    rows, columns = np.mgrid[:size, :size] / size
    centres = 0.5 + 0.25 * np.stack([np.cos(1.3 * labels), np.sin(1.3 * labels)]) + 0.05 * rng.normal(size=(2, number))
    distance = np.hypot(rows - centres[0][:, None, None], columns - centres[1][:, None, None])
    shapes = np.maximum(0.0, 0.35 - distance)[:, None] * rng.uniform(1.0, 3.0, (number, channels, size, size))
    return torch.as_tensor(shapes, dtype=torch.float32), torch.as_tensor(labels)


def numbers(seed: int, number: int = 128, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Normal inputs with labels at random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, width, generator=generator), torch.randint(0, CLASSES, (number,), generator=generator)


def tokens(seed: int, number: int = 64, length: int = 7, vocabulary: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentences of different lengths, padded with zeros, and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(1, vocabulary, (number, length), generator=generator)
    lengths = torch.randint(2, length + 1, (number, 1), generator=generator)
    return x * (torch.arange(length) < lengths), torch.randint(0, CLASSES, (number,), generator=generator)


def trained(model: nn.Module, data: Any, steps: int) -> nn.Module:
    """The model after some steps of Adam, in eval mode; its batch norms have seen the data."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    return model.eval()


def built(layers: Callable[[], list[nn.Module]], data: Callable[[int], Any], steps: int = 0) -> Make:
    """Makes the oracle of a sequence of layers."""

    def make(seed: int) -> Any:
        torch.manual_seed(seed)
        given = data(seed)
        return ish.oracle(trained(nn.Sequential(*layers()), given, steps), given)

    return make


def conv_bn(inputs: int, outputs: int, activation: type[nn.Module] = nn.ReLU, **options: Any) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options), nn.BatchNorm2d(outputs), activation()]


def classifier(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def conv_bn_relu() -> list[nn.Module]:
    return [*conv_bn(1, 8), nn.MaxPool2d(2), *conv_bn(8, 16), *classifier(16)]


def strided_conv_bn_relu() -> list[nn.Module]:
    return [*conv_bn(1, 12, stride=2), *conv_bn(12, 12), *conv_bn(12, 16, stride=2), *classifier(16)]


def max_pooling() -> list[nn.Module]:
    first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return [*first, nn.Conv2d(8, 8, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, CLASSES)]


def mobile() -> list[nn.Module]:
    depthwise = [nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 1)]
    return [*conv_bn(1, 8, nn.ReLU6, stride=2), *depthwise, nn.Hardswish(), *classifier(16)]


def mlp(*activations: type[nn.Module], width: int = 32) -> Callable[[], list[nn.Module]]:
    """Layers of this width, each with its activation."""

    def layers() -> list[nn.Module]:
        widths = [12, *[width] * len(activations)]
        hidden = zip(widths, widths[1:], activations, strict=False)
        body = [layer for a, b, act in hidden for layer in (nn.Linear(a, b), act())]
        return [*body, nn.Linear(width, CLASSES)]

    return layers


def scaled(factor: float) -> Callable[[], list[nn.Module]]:
    """A network of ReLU whose first layer is multiplied by a factor, and its last one divided."""

    def layers() -> list[nn.Module]:
        made = mlp(nn.ReLU, nn.ReLU)()
        with torch.no_grad():
            made[0].weight.mul_(factor)
            made[0].bias.mul_(factor)
            made[-1].weight.div_(factor)
        return made

    return layers


def with_dead_units() -> list[nn.Module]:
    made = mlp(nn.ReLU, nn.ReLU)()
    with torch.no_grad():
        made[0].bias[:16] = -10.0
    return made


class Residual(nn.Module):
    """Two convolutions with batch norms around which the input goes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_bn(channels, channels), *conv_bn(channels, channels)[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def resnet() -> list[nn.Module]:
    return [*conv_bn(1, 8, stride=2), Residual(8), Residual(8), *classifier(8)]


class MeanOfWords(nn.Module):
    """The mean of the embeddings of all words that are no padding."""

    def __init__(self, vocabulary: int = 20, width: int = 16) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width, padding_idx=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        present = (x > 0).unsqueeze(-1).float()
        return (self.table(x) * present).sum(1) / present.sum(1)


def words() -> list[nn.Module]:
    return [MeanOfWords(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, CLASSES)]


class Last(nn.Module):
    """The last state of a recurrent network over the embeddings."""

    def __init__(self, kind: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.recurrent = kind(8, 12, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.recurrent(self.table(x))[0][:, -1]


class Encoder(nn.Module):
    """A transformer over the embeddings, with one vector for each sentence."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation=activation, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.table(x)).mean(1)


def jax_mlp(seed: int) -> Any:
    """Three layers of ReLU in JAX."""
    import jax
    import jax.numpy as jnp

    def apply(p: Any, x: Any) -> Any:
        h = jax.nn.relu(x @ p["first"]["kernel"] + p["first"]["bias"])
        h = jax.nn.relu(h @ p["second"]["kernel"] + p["second"]["bias"])
        return h @ p["third"]["kernel"] + p["third"]["bias"]

    rng = np.random.default_rng(seed)
    widths = {"first": (12, 32), "second": (32, 32), "third": (32, CLASSES)}
    parameters = {
        name: {
            "kernel": jnp.asarray(rng.normal(size=shape) / shape[0] ** 0.5, dtype=jnp.float32),
            "bias": jnp.asarray(0.1 * rng.normal(size=shape[1]), dtype=jnp.float32),
        }
        for name, shape in widths.items()
    }
    x, y = numbers(seed)
    return ish.oracle(apply, (x.numpy(), y.numpy()), parameters=parameters)


INNOCENT: dict[str, Make] = {
    "conv, batch norm, ReLU": built(conv_bn_relu, images, 30),
    "strided conv, batch norm, ReLU": built(strided_conv_bn_relu, images, 30),
    "max-pooling": built(max_pooling, images, 10),
    "ReLU6, hardswish, depthwise": built(mobile, images, 20),
    "residual": built(resnet, images, 20),
    "ReLU": built(mlp(nn.ReLU, nn.ReLU), numbers),
    "ReLU, four layers, fitted": built(mlp(*[nn.ReLU] * 4), numbers, 150),
    "ReLU on images": built(lambda: [nn.Flatten(), nn.Linear(196, 12), nn.ReLU(), *mlp(nn.ReLU)()], images, 20),
    "leaky ReLU, PReLU": built(mlp(nn.LeakyReLU, nn.PReLU), numbers),
    "hardtanh": built(mlp(nn.Hardtanh, nn.Hardtanh), numbers),
    "ReLU6, softshrink": built(mlp(nn.ReLU6, nn.Softshrink), numbers),
    "dead units": built(with_dead_units, numbers),
    "large weights": built(scaled(1e4), numbers),
    "tiny weights": built(scaled(1e-4), numbers),
    "GELU, layer norm": built(lambda: [*mlp(nn.GELU)()[:2], nn.LayerNorm(32), *mlp(nn.GELU, width=32)()[2:]], numbers),
    "padded embedding": built(words, tokens, 20),
    "LSTM": built(lambda: [Last(nn.LSTM), nn.Linear(12, CLASSES)], tokens),
    "GRU, two layers": built(lambda: [Last(nn.GRU, num_layers=2), nn.Linear(12, CLASSES)], tokens),
    "transformer, ReLU": built(lambda: [Encoder("relu"), nn.Linear(16, CLASSES)], tokens),
    "ReLU in JAX": jax_mlp,
}
"""Twenty networks whose derivatives are right."""
