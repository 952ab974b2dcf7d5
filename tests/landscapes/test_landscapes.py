"""Landscapes: the parameters in their middle, directions as long as the weights, and the same picture of the same function."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import invariant_sharpness as ish
from invariant_sharpness.cli import app
from invariant_sharpness.landscapes import balanced_directions, filter_normalized_directions, loss_landscape
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork

SIZES = (4, 5, 3)


def oracle() -> NetworkOracle:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)) for m, n in pairwise(SIZES)]
    network = ReluNetwork(weights, [rng.normal(size=n) for n in SIZES[1:]])
    return NetworkOracle(network, rng.normal(size=(20, 4)), rng.integers(3, size=20))


def rescaled(model: NetworkOracle) -> ish.Moved:
    (rescaling,) = chain_rescalings(model.groups)
    factors = np.ldexp(1.0, np.array([6, -5, 0, 3, -8]))
    return ish.Moved(model, rescaling.apply(model, model.parameters, factors))


def quadratic() -> FunctionOracle:
    """``w . w``, at w = (3, 4)."""
    return FunctionOracle(
        {"w": np.array([3.0, 4.0])},
        lambda p: float((p["w"] ** 2).sum()),
        lambda p: {"w": 2 * p["w"]},
        lambda _, v: {"w": 2 * v["w"]},
    )


def test_parameters_are_in_the_middle() -> None:
    model = oracle()
    found = loss_landscape(model, balanced_directions(model), points=5)
    assert found.center == model.loss(model.parameters), f"{found.center}"
    assert found.positions.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_losses_are_those_of_the_formula() -> None:
    model = quadratic()
    directions = [model.from_numpy({"w": np.array(d)}) for d in ([1.0, 0.0], [0.0, 2.0])]
    found = loss_landscape(model, directions, extent=0.5, points=3)
    expected = [[(3 + a) ** 2 + (4 + 2 * b) ** 2 for b in (-0.5, 0, 0.5)] for a in (-0.5, 0, 0.5)]
    assert np.array_equal(found.losses, expected), f"{found.losses} instead of {expected}"


def test_one_direction_is_a_line() -> None:
    model = quadratic()
    found = loss_landscape(model, [model.from_numpy({"w": np.array([1.0, 0.0])})], points=3)
    assert found.losses.tolist() == [4.0 + 16.0, 25.0, 16.0 + 16.0]


def test_line_through_two_networks_passes_both() -> None:
    """The parametric plot of Keskar et al. (2017): ``(1 - a) theta_1 + a theta_2`` with a from -1 to 2, in 25 points."""
    one = oracle()
    two = one.parameters + balanced_directions(one, 1)[0]
    between = ish.Moved(one, (one.parameters + two) * 0.5)
    line = loss_landscape(between, [two - one.parameters], extent=1.5, points=25)
    a = line.positions + 0.5
    assert (a[0], a[-1]) == (-1, 2), f"from {a[0]} to {a[-1]}"
    expected = [one.loss((1 - at) * one.parameters + at * two) for at in a.tolist()]
    assert np.allclose(line.losses, expected, rtol=1e-13), f"{line.losses} instead of {expected}"


def test_filters_are_as_long_as_those_of_the_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3)).double()
    torch_oracle = ish.oracle(model.eval(), (torch.randn(6, 2, 3, 3), torch.arange(6) % 3))
    (direction,) = filter_normalized_directions(torch_oracle, 1)
    for name, parameter in model.named_parameters():
        found, own = direction[name].flatten(1) if parameter.ndim > 1 else direction[name], parameter.detach()
        if parameter.ndim > 1:
            ratio = found.norm(dim=1) / own.flatten(1).norm(dim=1)
            assert torch.allclose(ratio, torch.ones(len(ratio)).double(), rtol=1e-13), f"{name}: ratios {ratio}"
        else:
            assert not found.any(), f"{name} moves by {found}"


def test_directions_are_gaussian_and_not_uniform() -> None:
    """The share of entries within half a standard deviation: 0.383, and 0.289 of uniform ones."""
    model = NetworkOracle(ReluNetwork([np.ones((2, 20000))], None), np.ones((2, 20000)), np.array([0, 1]))
    (direction,) = filter_normalized_directions(model, 1)
    share = float((np.abs(direction.arrays[model.groups[0].name]) < 0.5).mean())
    assert abs(share - 0.3829) < 0.01, f"share {share}"


def test_picture_in_balanced_directions_is_the_same_after_a_rescaling() -> None:
    model = oracle()
    before, after = (loss_landscape(o, balanced_directions(o), points=7).losses for o in (model, rescaled(model)))
    error = np.abs(after / before - 1).max()
    assert error <= 1e-12, f"losses moved by up to {error:.1e} of themselves"


def test_picture_in_filter_normalized_directions_is_another_one_after_a_rescaling() -> None:
    model = oracle()
    before, after = (
        loss_landscape(o, filter_normalized_directions(o), points=7).losses for o in (model, rescaled(model))
    )
    assert after.max() > 10 * before.max(), f"the largest losses are {before.max()} and {after.max()}"


def test_other_seeds_are_other_directions_and_equal_ones_the_same() -> None:
    model = oracle()
    a, b, c = (balanced_directions(model, 1, seed=seed)[0] for seed in (0, 0, 1))
    assert (a - b).norm() == 0
    assert (a - c).norm() > 0


def test_loss_that_is_no_number_is_a_gap() -> None:
    model = FunctionOracle(
        {"w": np.ones(1)},
        lambda p: float("nan") if p["w"][0] > 1.5 else 1.0,
        lambda p: {"w": 0 * p["w"]},
        lambda _, v: {"w": 0 * v["w"]},
    )
    found = loss_landscape(model, [model.parameters], points=3)
    assert found.losses.tolist() == [1.0, 1.0, float("inf")]
    assert found.to_dict()["losses"] == [1.0, 1.0, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"points": 4}, "odd number"), ({"points": 1}, "odd number"), ({"extent": 0.0}, "positive and finite")],
)
def test_wrong_grids_are_refused(options: dict[str, Any], message: str) -> None:
    model = quadratic()
    with pytest.raises(ValueError, match=message):
        loss_landscape(model, [model.parameters], **options)


@pytest.mark.parametrize("count", [0, 3])
def test_other_numbers_of_directions_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="a landscape has one or two"):
        loss_landscape(quadratic(), [quadratic().parameters] * count)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_plot_returns_axes_with_the_parameters_marked(dimensions: int) -> None:
    model = oracle()
    axes = loss_landscape(model, balanced_directions(model, dimensions), points=5).plot()
    marks = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "x"]
    y = 0.0 if dimensions == 2 else model.loss(model.parameters)
    assert marks == [[[0.0, y]]], f"marks at {marks}"


SOURCE = """
import numpy as np
from invariant_sharpness_numpy import ReluNetwork

model = ReluNetwork.initialize((4, 5, 3), seed=0)
target = model, (np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3)
"""


def draw(folder: Path, *options: str) -> Any:
    (folder / "drawn.py").write_text(SOURCE)
    command = ["landscape", f"{folder / 'drawn.py'}:target", "--output", str(folder / "picture.png"), *options]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def test_command_writes_the_picture_and_its_numbers(tmp_path: Path) -> None:
    result = draw(tmp_path, "--points", "5", "--coordinates", "filter")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "picture.json").read_text())
    assert (numbers["shape"], numbers["coordinates"]) == ([5, 5], "filter"), f"{numbers}"


def test_command_refuses_an_even_number_of_points(tmp_path: Path) -> None:
    result = draw(tmp_path, "--points", "4")
    assert (result.exit_code, (tmp_path / "picture.png").exists()) == (2, False), result.output
