"""Whether signs at the inputs of a layer, in the place of signs at its positions, make draws at layers better.

    python docs/experiments/signs_at_inputs.py

An encoder on 256 digits, whose 64 pixels are sequences of 16 with 4 pixels, or of 8 with 8. The root mean square error of one draw, relative to the norm of the
diagonal of the residual part, which unit vectors give exactly: with a sign for every position and output unit, or with one for every output unit and one for every
input, the inputs scaled to the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from layer_draws import EXAMPLES, WIDTH, Block
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

DRAWS, LAYERS = 24, ("embed", "blocks.0.query", "blocks.0.value", "blocks.0.up")
Tensor = torch.Tensor


class Encoder(nn.Module):
    """Tokens of some pixels each, with positions."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(pixels, WIDTH), nn.Linear(WIDTH, 10)
        self.places = nn.Parameter(0.3 * torch.randn(64 // pixels, WIDTH))
        self.blocks = nn.Sequential(Block(nn.LayerNorm, gated=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x) + self.places).mean(1))


class Layer:
    """The inputs of a layer, its outputs' scale, and products with the second derivative K above it."""

    def __init__(self, model: nn.Module, name: str, x: Tensor, y: Tensor) -> None:
        kept: dict[str, Tensor] = {}
        hook = model.get_submodule(name).register_forward_hook(lambda _, a, z: kept.update(a=a[0], z=z))
        logits = model(x)
        hook.remove()
        loss = functional.cross_entropy(logits, y)
        (cotangents,) = torch.autograd.grad(loss, logits, retain_graph=True)
        self.inputs, self.outputs = kept["a"].detach(), kept["z"]
        (self.delta,) = torch.autograd.grad((cotangents.detach() * logits).sum(), self.outputs, create_graph=True)
        squares = ((self.outputs.detach() ** 2).sum((0, 1)), (self.delta.detach() ** 2).sum((0, 1)))
        self.scale = (squares[0] / squares[1]) ** 0.25

    def curved(self, u: Tensor) -> Tensor:
        return torch.autograd.grad(self.delta, self.outputs, u, retain_graph=True)[0]

    def exact(self) -> Tensor:
        """The sum over unit vectors."""
        _, positions, units = self.outputs.shape
        found = torch.zeros(units, self.inputs.shape[-1], dtype=torch.float64)
        for t in range(positions):
            for i in range(units):
                unit = torch.zeros_like(self.outputs)
                unit[:, t, i] = 1
                found[i] += torch.einsum("nj,nt,ntj->j", self.inputs[:, t], self.curved(unit)[..., i], self.inputs)
        return found

    def at_positions(self) -> Tensor:
        u = _signs(*self.outputs.shape)
        left = torch.einsum("nti,ntj->nij", u / self.scale, self.inputs)
        return (left * torch.einsum("nti,ntj->nij", self.curved(u * self.scale), self.inputs)).sum(0)

    def at_inputs(self) -> Tensor:
        (n, _, units), size = self.outputs.shape, (self.inputs**2).mean((0, 1)).sqrt()
        size = size + (size == 0)
        u, v = _signs(n, 1, units), _signs(n, 1, len(size))
        curved = self.curved(u * self.scale * (v / size * self.inputs).sum(-1, keepdim=True))
        return torch.einsum("nti,ntj->ij", u / self.scale * curved, v * size * self.inputs)


def _signs(*shape: int) -> Tensor:
    return 2 * torch.randint(0, 2, shape, dtype=torch.float64) - 1


def errors(layer: Layer) -> Iterator[float]:
    """Of draws at positions, and of draws at inputs."""
    exact = layer.exact()
    draws: tuple[Callable[[], Tensor], ...] = layer.at_positions, layer.at_inputs
    for draw in draws:
        squares = torch.stack([((draw() - exact) ** 2).sum() for _ in range(DRAWS)])
        yield float((squares.mean() / (exact**2).sum()).sqrt())


def trained(pixels: int, steps: int, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(3)
    model = Encoder(pixels).double()
    optimizer: Any = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def main() -> None:
    """Print the table in Markdown."""
    digits = load_digits()
    images, y = torch.tensor(digits.data[:EXAMPLES] / 8 - 1), torch.tensor(digits.target[:EXAMPLES])
    print("| layer | inputs | positions | steps of training | signs at positions | signs at inputs |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for pixels in (4, 8):
        x = images.reshape(EXAMPLES, -1, pixels)
        for steps in (30, 250):
            model = trained(pixels, steps, x, y)
            for name in LAYERS:
                inputs = model.get_submodule(name).in_features
                cells = " | ".join(f"{error:.2f}" for error in errors(Layer(model, name, x, y)))
                print(f"| `{name}` | {inputs} | {64 // pixels} | {steps} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
