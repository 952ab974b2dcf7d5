"""Parameters of modules of one's own get the axes of the operations in which they enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.solvers.rows_columns import solve

ROLES = ("role", "output_axes", "input_axes", "channel_groups", "divided_axes")


class Own(nn.Module):
    """A layer of one's own: a weight, a bias, and a function of both and of the inputs."""

    def __init__(self, like: nn.Module, function: Callable[[Any, Any, Any], Any]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(like.weight.detach().clone()), nn.Parameter(like.bias.detach().clone())
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x, self.weight, self.bias)


def unfolded(x: Any, weight: Any, bias: Any) -> Any:
    columns = nn.functional.unfold(x, weight.shape[-1])
    return (weight.flatten(1) @ columns).reshape(len(x), len(weight), 4, 4) + bias[:, None, None]


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Any, Any], Any]]] = {
    "a convolution": (lambda: nn.Conv2d(4, 8, 3), lambda x, w, b: nn.functional.conv2d(x, w, b)),
    "a strided convolution": (lambda: nn.Conv2d(4, 6, 3, 2), lambda x, w, b: torch.conv2d(x, w, b, (2, 2))),
    "a grouped convolution": (
        lambda: nn.Conv2d(4, 8, 3, groups=2),
        lambda x, w, b: nn.functional.conv2d(x, w, b, groups=2),
    ),
    "a depthwise one": (lambda: nn.Conv2d(4, 4, 3, groups=4), lambda x, w, b: nn.functional.conv2d(x, w, b, groups=4)),
    "a transposed one": (
        lambda: nn.ConvTranspose2d(4, 6, 3),
        lambda x, w, b: nn.functional.conv_transpose2d(x, w, b),
    ),
    "an unfolded one": (lambda: nn.Conv2d(4, 5, 3), unfolded),
    "one in one dimension": (
        lambda: nn.Conv1d(24, 5, 3),
        lambda x, w, b: nn.functional.conv1d(x.flatten(1, 2), w, b),
    ),
}


def network(layer: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(width, 3))


def data() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.normal(size=(20, 4, 6, 6))), torch.from_numpy(random.integers(0, 3, 20))


def twins(kind: str) -> tuple[nn.Module, nn.Module]:
    make, function = LAYERS[kind]
    torch.manual_seed(0)
    layer = make().double()
    x = data()[0]
    inner = nn.Sequential(nn.Flatten(1, 2), layer) if isinstance(layer, nn.Conv1d) else layer
    known = network(inner, int(inner(x)[0].numel())).double()
    own = network(Own(layer, function), known[-1].in_features).double()
    own[-1].load_state_dict(known[-1].state_dict())
    return known, own


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_ones_own_are_measured_as_their_twins(kind: str) -> None:
    known, own = (ish.oracle(model, data()) for model in twins(kind))
    for expected, found in zip(known.groups, own.groups, strict=True):
        for role in ROLES:
            assert getattr(found, role) == getattr(expected, role), f"{role} of {found}, and not {expected}"
        assert (found.owner is None) == (expected.owner is None), found
    for policy in ("exclude", "column"):
        expected, found = (ish.normalized_sharpness(oracle, biases=policy).value for oracle in (known, own))
        assert found == pytest.approx(expected, rel=1e-9), f"(17) with biases={policy}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["a convolution", "a grouped convolution", "a transposed one"])
def test_exported_modules_are_measured_as_what_they_come_from(kind: str) -> None:
    known, _ = twins(kind)
    x, y = data()
    exported = torch.export.export(known, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    expected = ish.normalized_sharpness(ish.oracle(known, [(x, y)])).value
    assert ish.normalized_sharpness(ish.oracle(exported, [(x, y)])).value == pytest.approx(expected, rel=1e-9)


class Experts(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.how = how
        self.experts = nn.Parameter(torch.randn(3, 5, 4, dtype=torch.float64))
        self.last = nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, x: Any) -> Any:
        if self.how == "einsum":
            hidden = torch.einsum("kni,kio->kno", x.expand(3, *x.shape), self.experts)
        elif self.how == "bmm":
            hidden = torch.bmm(x.expand(3, *x.shape), self.experts)
        else:
            hidden = x @ self.experts
        return self.last(hidden.relu().sum(0))


@pytest.mark.parametrize("how", ["einsum", "bmm", "matmul"])
def test_stacked_matrices_are_measured_one_by_one(how: str) -> None:
    x, y = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
    oracle = ish.oracle(Experts(how), (x, y))
    group = next(group for group in oracle.groups if group.name == "experts")
    assert group.is_weight, group
    diagonal = ish.hessian_diagonal(oracle)["experts"].values
    weights = oracle.to_numpy(oracle.parameters)["experts"]
    expected = sum(solve(h, w**2, tolerance=1e-12).value for h, w in zip(diagonal, weights, strict=True))
    assert ish.normalized_sharpness(oracle).per_group["experts"].value == pytest.approx(expected, rel=1e-9)


def test_a_parameter_that_is_used_in_two_ways_is_left_as_it_was() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cube = nn.Parameter(torch.randn(3, 3, 3, dtype=torch.float64))

        def forward(self, x: Any) -> Any:
            return (x @ self.cube).sum(0) + nn.functional.conv1d(x[:, None], self.cube[:, :1], padding=1).sum(2)

    oracle = ish.oracle(Twice(), (torch.randn(9, 3, dtype=torch.float64), torch.randint(0, 3, (9,))))
    assert oracle.groups[0].role in ("other", "matrix"), oracle.groups


def test_looking_changes_nothing() -> None:
    _, own = twins("a convolution")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    ish.oracle(own, data())
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
