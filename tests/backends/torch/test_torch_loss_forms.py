"""Losses of the PyTorch backend over several uneven batches, against a dense reference made of torch's own losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from zoo.torch_losses import Loss, assert_agrees

WEIGHT = torch.tensor([0.5, 2.0, 0.25, 1.0], dtype=torch.float64)
IGNORED = -100


class Tagger(nn.Module):
    """Class scores for every token; ``classes`` says on which axis they stand."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.classes = nn.Linear(3, 5), nn.Linear(5, 4), classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x))).movedim(-1, self.classes)


def vectors(ignored: int | None = None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double()
    x, y = torch.randn(13, 3, dtype=torch.float64), torch.randint(0, 4, (13,))
    if ignored is not None:
        y[[1, 2, 9]] = ignored
    return model, x, y


def sequences(classes: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    y = torch.randint(0, 4, (7, 6))
    y[0, 2:], y[4] = IGNORED, IGNORED
    return Tagger(classes).double(), torch.randn(7, 6, 3, dtype=torch.float64), y


def targets(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(model(x).detach())


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("ignored", [IGNORED, 2, 255])
def test_class_weights_and_ignored_labels(weight: torch.Tensor | None, ignored: int) -> None:
    model, x, y = vectors(ignored)
    loss = nn.CrossEntropyLoss(weight=weight, ignore_index=ignored)
    assert_agrees(model, x, y, loss, loss)


def test_tokens_with_classes_last_by_name() -> None:
    model, x, y = sequences(-1)
    assert_agrees(model, x, y, "cross_entropy", lambda z, t: functional.cross_entropy(z.flatten(0, 1), t.flatten()))


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_tokens_with_classes_on_axis_one_in_the_manner_of_torch(weight: torch.Tensor | None) -> None:
    model, x, y = sequences(1)
    loss = nn.CrossEntropyLoss(weight=weight)
    assert_agrees(model, x, y, loss, loss)


@pytest.mark.parametrize("loss", ["mse", nn.MSELoss()])
def test_squared_error_of_vectors_and_sequences(loss: Any) -> None:
    for model, x, _ in (vectors(), sequences(-1)):
        assert_agrees(model, x, targets(model, x), loss, functional.mse_loss)


def test_squared_error_of_one_output_without_an_axis() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1), nn.Flatten(0)).double()
    x = torch.randn(9, 3, dtype=torch.float64)
    assert_agrees(model, x, targets(model, x), "mse", functional.mse_loss)


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        ("cross_entropy", partial(functional.cross_entropy, reduction="none")),
        ("mse", lambda z, t: (z - t).square().mean(dim=1)),
        (
            "normalized_cross_entropy",
            lambda z, t: functional.cross_entropy(z / z.std(dim=1, correction=0, keepdim=True), t, reduction="none"),
        ),
    ],
)
def test_callable_gives_every_metric_of_the_named_loss(loss: str, function: Loss) -> None:
    model, x, y = vectors()
    y = targets(model, x) if loss == "mse" else y
    named = ish.measure(ish.oracle(model, (x, y), loss=loss, batch_size=5))
    own = ish.measure(ish.oracle(model, (x, y), loss=function, batch_size=5))
    for name, estimate in named.estimates.items():
        assert own[name].value == pytest.approx(estimate.value, rel=1e-8), name


def test_label_smoothing_and_class_probabilities_as_callables() -> None:
    model, x, y = vectors()
    smooth = partial(functional.cross_entropy, label_smoothing=0.1)
    assert_agrees(model, x, y, partial(smooth, reduction="none"), smooth)
    probabilities = torch.rand(13, 4, dtype=torch.float64).softmax(1)
    loss = functional.cross_entropy
    assert_agrees(model, x, probabilities, partial(loss, reduction="none"), loss)


def test_moments_of_tokens_are_those_of_a_loop_over_tokens() -> None:
    model, x, y = sequences(-1)
    oracle = ish.oracle(model, (x, y), batch_size=3)
    parameters = list(model.parameters())
    slopes = [
        torch.autograd.grad(functional.cross_entropy(model(x[n : n + 1])[0, t], y[n, t]), parameters)
        for n, t in (y != IGNORED).nonzero().tolist()
    ]
    moments = oracle.gradient_second_moment(oracle.parameters)
    for index, (name, _) in enumerate(model.named_parameters()):
        expected = torch.stack([s[index] ** 2 for s in slopes]).mean(0)
        error = float((moments[name] - expected).abs().max() / expected.abs().max())
        assert error <= 1e-12, f"second moments of {name} are off by {error:.1e}"
    products = [sum(float((g * p).detach().sum()) for g, p in zip(s, parameters, strict=True)) for s in slopes]
    value = oracle.directional_second_moment(oracle.parameters, oracle.parameters)
    assert value == pytest.approx(np.mean(np.square(products)), rel=1e-11)


def test_weighted_second_moments_are_weighted_means_over_the_examples() -> None:
    model, x, y = vectors(IGNORED)
    oracle = ish.oracle(model, (x, y), loss=nn.CrossEntropyLoss(weight=WEIGHT), batch_size=4)
    kept = [n for n in range(13) if y[n] != IGNORED]
    slopes = [torch.autograd.grad(functional.cross_entropy(model(x[n]), y[n]), list(model.parameters())) for n in kept]
    weights = WEIGHT[y[kept]] / WEIGHT[y[kept]].sum()
    moments = oracle.gradient_second_moment(oracle.parameters)
    for index, (name, _) in enumerate(model.named_parameters()):
        expected = sum(w * s[index] ** 2 for w, s in zip(weights, slopes, strict=True))
        error = float((moments[name] - expected).abs().max() / expected.abs().max())
        assert error <= 1e-12, f"second moments of {name} are off by {error:.1e}"
