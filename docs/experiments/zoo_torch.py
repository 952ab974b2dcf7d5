"""Networks of the zoo on PyTorch: built, and trained until the training loss is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from torch import nn
from zoo_data import CLASSES, Images
from zoo_grid import Setting
from zoo_network import MOST_EPOCHS, SMALL_LOSS, UNITS_PER_CHANNEL, Trained

import invariant_sharpness as ish


def train(
    setting: Setting, images: Images, *, small_loss: float = SMALL_LOSS, most_epochs: int = MOST_EPOCHS
) -> Trained:
    """Train one network, on a GPU if there is one; the same setting gives the same weights, bit by bit, on one kind of machine.

    Training stops where the mean cross-entropy of the training set is at most ``small_loss``, and after ``most_epochs``.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(setting.seed)
    network = build(setting, images.x.shape[1:]).to(device)
    x, y = torch.from_numpy(images.x).to(device), torch.from_numpy(images.y).to(device)
    initial = _weights(network)
    optimizer = _optimizer(setting, network)
    epochs, loss = 0, float("inf")
    while loss > small_loss and epochs < most_epochs and not np.isnan(loss):
        _epoch(network.train(), x, y, optimizer, setting.batch_size)
        epochs, loss = epochs + 1, _loss(network.eval(), x, y)
    return as_trained(network, setting, (x, y), initial, epochs, loss)


def as_trained(
    network: nn.Module,
    setting: Setting,
    data: tuple[torch.Tensor, torch.Tensor],
    initial: list[np.ndarray],
    epochs: int,
    loss: float,
) -> Trained:
    """What the measures see of a network in evaluation mode, which was trained on these images and labels."""
    x, _ = data
    return Trained(
        oracle=lambda loss: ish.oracle(network, data, loss=loss),
        initial=initial,
        weights=_weights(network),
        outputs=lambda inputs: _outputs(network, torch.from_numpy(inputs).to(x.device)),
        perturbed_outputs=lambda noise: _perturbed(network, x, noise),
        squared_outputs=None if setting.norm else lambda: _squared_outputs(network, x),
        parameter_count=sum(p.numel() for p in network.parameters()),
        epochs=epochs,
        loss=loss,
    )


def build(setting: Setting, shape: tuple[int, ...]) -> nn.Module:
    """Build a network for images of a shape; LeNet and ResNet end in dense layers, which are made for that shape."""
    layers = ARCHITECTURES[setting.architecture](setting, shape)
    return nn.Sequential(*layers)


def _mlp(setting: Setting, shape: tuple[int, ...]) -> Iterator[nn.Module]:
    inputs = int(np.prod(shape))
    yield nn.Flatten()
    yield from _dense(inputs, setting.width, setting)


def _dense(inputs: int, units: int, setting: Setting) -> Iterator[nn.Module]:
    for _ in range(setting.depth):
        yield nn.Linear(inputs, units)
        yield from _norm(nn.BatchNorm1d, setting, units)
        yield nn.ReLU()
        inputs = units
    yield nn.Linear(inputs, CLASSES)


def _norm(kind: Callable[[int], nn.Module], setting: Setting, channels: int) -> Iterator[nn.Module]:
    if setting.norm:
        yield kind(channels)


def _lenet(setting: Setting, shape: tuple[int, ...]) -> Iterator[nn.Module]:
    channels, width = shape[0], setting.width
    for outputs in (width, 2 * width):
        yield nn.Conv2d(channels, outputs, 5, padding=2)
        yield from _norm(nn.BatchNorm2d, setting, outputs)
        yield nn.ReLU()
        yield nn.MaxPool2d(2)
        channels = outputs
    yield nn.Flatten()
    yield from _dense(2 * width * (shape[1] // 4) * (shape[2] // 4), UNITS_PER_CHANNEL * width, setting)


def _resnet(setting: Setting, shape: tuple[int, ...]) -> Iterator[nn.Module]:
    yield nn.Conv2d(shape[0], setting.width, 3, padding=1)
    yield nn.ReLU()
    for _ in range(setting.depth):
        yield Block(setting)
        yield nn.MaxPool2d(2)
    yield nn.AdaptiveAvgPool2d(1)
    yield nn.Flatten()
    yield nn.Linear(setting.width, CLASSES)


class Block(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        width = setting.width
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        norms = [list(_norm(nn.BatchNorm2d, setting, width)) for _ in range(2)]
        self.branch = nn.Sequential(first, *norms[0], nn.ReLU(), second, *norms[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.branch(x))


def _wide_resnet(setting: Setting, shape: tuple[int, ...]) -> Iterator[nn.Module]:
    """The Wide ResNet of Zagoruyko and Komodakis: 16 layers with a factor of 4 are a depth of 2 and a width of 64."""
    inputs = 16
    yield nn.Conv2d(shape[0], inputs, 3, padding=1)
    for group, number in product(range(3), range(setting.depth)):
        outputs = setting.width * 2**group
        yield WideBlock(inputs, outputs, stride=2 if group > 0 and number == 0 else 1, setting=setting)
        inputs = outputs
    yield from _norm(nn.BatchNorm2d, setting, inputs)
    yield nn.ReLU()
    yield nn.AdaptiveAvgPool2d(1)
    yield nn.Flatten()
    yield nn.Linear(inputs, CLASSES)


class WideBlock(nn.Module):
    """Norm, ReLU and convolution, twice, beside the identity, or beside a convolution of single pixels where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, setting: Setting) -> None:
        super().__init__()
        self.first = nn.Sequential(*_norm(nn.BatchNorm2d, setting, inputs), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
            *_norm(nn.BatchNorm2d, setting, outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.pixels = nn.Conv2d(inputs, outputs, 1, stride=stride) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.first(x)
        beside = x if self.pixels is None else self.pixels(activated)
        return beside + self.branch(activated)


ARCHITECTURES = {"mlp": _mlp, "lenet": _lenet, "resnet": _resnet, "wide_resnet": _wide_resnet}


def _optimizer(setting: Setting, network: nn.Module) -> torch.optim.Optimizer:
    options = {"lr": setting.learning_rate, "weight_decay": setting.weight_decay}
    if setting.optimizer == "adam":
        return torch.optim.AdamW(network.parameters(), **options)
    return torch.optim.SGD(network.parameters(), momentum=0.9, **options)


def _epoch(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor, optimizer: torch.optim.Optimizer, batch_size: int
) -> None:
    for batch in torch.randperm(len(y)).split(batch_size):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
        optimizer.step()


@torch.no_grad()
def _loss(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return float(nn.functional.cross_entropy(_logits(network, x), y))


@torch.no_grad()
def _outputs(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    return _logits(network, x).cpu().double().numpy()


def _logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([network(part) for part in x.split(1_000)])


def _weights(network: nn.Module) -> list[np.ndarray]:
    """Weights of dense layers and convolutions, ``(outputs, inputs, ...)``."""
    return [p.detach().cpu().double().numpy().copy() for p in network.parameters() if p.dim() > 1]


@torch.no_grad()
def _perturbed(network: nn.Module, x: torch.Tensor, noise: Callable[[int, tuple[int, ...]], np.ndarray]) -> np.ndarray:
    """Outputs with ``noise(number, shape)`` added to each parameter."""
    parameters = dict(network.named_parameters())
    moved = {
        name: value + torch.from_numpy(noise(number, tuple(value.shape))).to(value)
        for number, (name, value) in enumerate(parameters.items())
    }
    return torch.func.functional_call(network, moved, (x,)).cpu().double().numpy()


@torch.no_grad()
def _squared_outputs(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The outputs for one image of ones, with every parameter squared, in double precision."""
    squared = {name: value.double() ** 2 for name, value in network.named_parameters()}
    ones = torch.ones_like(x[:1], dtype=torch.float64)
    return torch.func.functional_call(network, squared, (ones,)).cpu().numpy()
