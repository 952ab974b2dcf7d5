"""There are no more: the rank of all the equations of a small network, put together from dense Jacobians."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

import invariant_sharpness as ish
from invariant_sharpness.symmetries import find_symmetries
from zoo.derived_symmetries import EXAMPLES

POINTS = 40
NAMES = (
    *("perceptron", "perceptron of tanh", "perceptron without biases", "residual", "gated", "product", "attention"),
    *("squeeze and excitation", "layer norm", "tied layers", "tied to the inputs", "tied embedding", "concatenation"),
    *("squared ReLU", "weight norm", "cosine", "pooled and flattened", "convolutions with batch norm", "dead input"),
)
"""Networks whose weights are all dense: each has one row per output and one column per input."""


def equations(model: nn.Module, x: torch.Tensor, points: int) -> np.ndarray:
    """One row for each output of each example at each of many random points, one column for each row, column or entry.

    Those that do not act on the outputs at all are left out.
    """
    torch.manual_seed(3)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    jacobian = jacrev(lambda values: functional_call(model, values, (x,)).reshape(-1))
    systems: list[list[torch.Tensor]] = []
    for _ in range(points):
        values = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
        slopes = [(values[name] * j).detach() for name, j in jacobian(values).items()]
        systems.append(slopes)
    signed, magnitudes = (
        torch.cat(
            [torch.cat([sums for part in slopes for sums in rows_and_columns(size(part))], dim=1) for slopes in systems]
        )
        for size in (torch.positive, torch.abs)
    )
    return signed[:, magnitudes.amax(0) > 1e-12 * magnitudes.max()].numpy()


def rows_and_columns(slopes: torch.Tensor) -> list[torch.Tensor]:
    """Sums over the rows and over the columns of a weight; the entries of anything with one axis."""
    if slopes.ndim == 2:
        return [slopes]
    flat = slopes.flatten(3) if slopes.ndim > 3 else slopes[..., None]
    return [flat.sum((2, 3)), flat.sum((1, 3))]


@pytest.mark.parametrize("name", NAMES)
def test_as_many_are_found_as_the_equations_leave(name: str) -> None:
    model, x = EXAMPLES[name].model(), EXAMPLES[name].inputs()
    system = equations(model, x, POINTS)
    values = np.linalg.svd(system, compute_uv=False)
    nullity = int(np.sum(values < 1e-9 * values[0]))
    said_twice = sum(p.ndim > 1 for p in model.parameters())  # all rows up and all columns down
    found = find_symmetries(ish.oracle(model, (x, torch.zeros(len(x), dtype=torch.int64))))
    expected = nullity - said_twice
    assert len(found) == expected, (
        f"{len(found)} found; {system.shape[1]} unknowns, rank {system.shape[1] - nullity}, {said_twice} weights: "
        f"{expected} expected; singular values around the gap {values[-nullity - 1 :][:2]}"
    )
