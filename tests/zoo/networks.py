"""Networks of the tests, and dense derivatives that nothing in the library has a part in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One softmax cross-entropy per example, by torch itself."""
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


def normalized_cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Equations (20)-(22), written down as they are printed."""
    mean = outputs.mean(dim=1, keepdim=True)
    deviation = ((outputs - mean) ** 2).mean(dim=1, keepdim=True).sqrt()
    return nn.functional.cross_entropy(outputs / deviation, labels, reduction="none")


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "normalized_cross_entropy": normalized_cross_entropy}


class ConvolutionalNetwork(nn.Module):
    """Stride, groups, batch norm, pooling, a transposed convolution and a dense layer; ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.transposed = nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.norm(self.first(x)), inplace=True)
        x = nn.functional.relu(self.grouped(x), inplace=True)
        x = nn.functional.max_pool2d(nn.functional.relu(self.transposed(x)), 2)
        return self.head(x.mean(dim=(2, 3)))


class ResidualNetwork(nn.Module):
    """Two residual blocks, one around a dense pair of layers and one around a single layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 6)
        self.inner = nn.Linear(6, 4)
        self.outer = nn.Linear(4, 6)
        self.single = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.stem(x))
        x = x + self.outer(nn.functional.relu(self.inner(x)))
        x = x + nn.functional.relu(self.single(x))
        return self.head(x)


def multilayer_perceptron() -> nn.Module:
    """Three dense layers with biases."""
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3))


def random_problem(kind: str, *, examples: int = 11, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A float64 network in eval mode with random parameters and statistics, inputs and labels of 3 classes."""
    torch.manual_seed(seed)
    model = {"mlp": multilayer_perceptron, "cnn": ConvolutionalNetwork, "resnet": ResidualNetwork}[kind]()
    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    shape = (examples, 2, 8, 8) if kind == "cnn" else (examples, 5)
    return model, torch.randn(shape, dtype=torch.float64), torch.randint(0, 3, (examples,))


def dense_hessian(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> dict[str, dict[str, torch.Tensor]]:
    """The blocks of the Hessian of the mean loss, each as a matrix."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def mean_loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return loss(functional_call(model, values, (x,)), y).mean()

    blocks = hessian(mean_loss)(parameters)
    return {
        a: {b: blocks[a][b].reshape(parameters[a].numel(), parameters[b].numel()) for b in parameters}
        for a in parameters
    }


def dense_matrix(blocks: dict[str, dict[str, torch.Tensor]]) -> torch.Tensor:
    """The whole Hessian."""
    return torch.cat([torch.cat(list(row.values()), dim=1) for row in blocks.values()])


def dense_diagonal(model: nn.Module, blocks: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The diagonal of the Hessian, in the parameters' shapes."""
    return {name: blocks[name][name].diagonal().reshape(p.shape) for name, p in model.named_parameters()}


def example_gradients(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> dict[str, torch.Tensor]:
    """The gradient of the loss of every example."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return jacrev(lambda values: loss(functional_call(model, values, (x,)), y))(parameters)


def differenced_hessian(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss, step: float = 2.0**-9
) -> dict[str, dict[str, torch.Tensor]]:
    """The blocks of the Hessian by differences of the gradient, accurate to the eighth power of ``step``."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    vector = torch.cat([p.reshape(-1) for p in parameters.values()])
    sizes = [p.numel() for p in parameters.values()]

    def gradient(point: torch.Tensor) -> torch.Tensor:
        parts = [part.reshape(p.shape) for part, p in zip(point.split(sizes), parameters.values(), strict=True)]
        values = {name: part.detach().requires_grad_() for name, part in zip(parameters, parts, strict=True)}
        mean = loss(functional_call(model, values, (x,)), y).mean()
        return torch.cat(
            [g.reshape(-1) for g in torch.autograd.grad(mean, list(values.values()), materialize_grads=True)]
        )

    weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    matrix = torch.stack(
        [
            sum(w * (gradient(vector + k * e) - gradient(vector - k * e)) for k, w in weights.items()) / step
            for e in step * torch.eye(len(vector), dtype=vector.dtype)
        ]
    )
    return {
        a: dict(zip(parameters, row.split(sizes, dim=1), strict=True))
        for a, row in zip(parameters, matrix.split(sizes), strict=True)
    }
