"""ResNet-18 as others wrote it, with 11 million parameters: what is exact, and what a rescaling changes."""

from __future__ import annotations

import copy
import runpy
from functools import cache
from math import isfinite
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness.symmetries import UnitRescaling, unit_count
from zoo import EXPERIMENTS
from zoo.invariant_metrics import relative_change

pytestmark = pytest.mark.slow

SCRIPT = EXPERIMENTS / "real_models.py"
resnet18 = runpy.run_path(str(SCRIPT))["resnet18"]

EXACT = ("parameter_normalized_sharpness", "normalized_sharpness", "matrix_normalized_sharpness", "hessian_trace")
SOME = (
    "resnet.embedder.embedder.convolution.weight",
    "resnet.encoder.stages.0.layers.1.layer.0.convolution.weight",
    "resnet.encoder.stages.2.layers.0.shortcut.convolution.weight",
    "resnet.encoder.stages.3.layers.1.layer.1.convolution.weight",
    "classifier.1.weight",
)
BLOCKS = [f"resnet.encoder.stages.{stage}.layers.{layer}" for stage in range(4) for layer in range(2)]


problem = cache(resnet18)


@cache
def oracle() -> ish.CurvatureOracle:
    return ish.oracle(*problem())


@cache
def report() -> ish.Report:
    return ish.measure(oracle(), EXACT)


def test_every_parameter_is_certified_exact() -> None:
    defects = curvature_defects(oracle())
    refused = {name: defects[name] for name in defects.keys() - exact_groups(oracle(), defects)}
    assert len(defects) == 62, f"{len(defects)} parameter groups"
    assert not refused, f"refused, although everything below is piecewise linear: {refused}"


@pytest.mark.parametrize("name", EXACT)
def test_value_is_exact_and_finite(name: str) -> None:
    estimate = report()[name]
    assert isfinite(estimate.value), estimate
    assert estimate.value > 0, estimate
    assert estimate.converged, estimate
    assert (estimate.method, estimate.standard_error) == ("exact", None), estimate


def test_every_convolution_has_its_share_of_normalized_sharpness() -> None:
    shares = report()["normalized_sharpness"].per_group
    assert len(shares) == 21, f"{len(shares)} weights"
    assert {share.method for share in shares.values()} == {"exact"}
    assert min(share.value for share in shares.values()) > 0, shares


@pytest.mark.parametrize("name", SOME)
def test_largest_entry_of_the_diagonal_is_the_second_derivative_of_the_loss(name: str) -> None:
    values = some_diagonals()[name].values
    index = tuple(np.unravel_index(values.argmax(), values.shape))
    expected = second_derivative(name, index)
    error = abs(values[index] - expected) / expected
    # single precision, rounded in each of 18 layers, against double precision
    assert error <= 1e-5, f"{name}{index}: {values[index]}, by torch.func {expected} ({error:.1e})"


@cache
def some_diagonals() -> ish.HessianDiagonal:
    return ish.hessian_diagonal(oracle(), parameters=frozenset(SOME))


def second_derivative(name: str, index: tuple[Any, ...]) -> float:
    """Of the loss in one parameter, in double precision, by torch.func."""
    model, (images, labels) = copy.deepcopy(problem()[0]).double(), problem()[1]
    weight = model.get_parameter(name).detach()
    unit = torch.zeros_like(weight)
    unit[index] = 1

    def loss(step: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(model, {name: weight + step * unit}, (images.double(),))
        return nn.functional.cross_entropy(outputs.logits, labels)

    return float(grad(grad(loss))(torch.zeros((), dtype=torch.float64)).detach())


def test_rescaling_of_all_channels_changes_the_trace_but_not_normalized_sharpness() -> None:
    parameters, random = oracle().parameters, np.random.default_rng(0)
    for rescaling in [*hidden_channels(), *residual_streams()]:
        exponents = random.integers(-6, 7, unit_count(oracle().groups, rescaling))
        parameters = rescaling.apply(oracle(), parameters, np.ldexp(1.0, exponents))
    moved = ish.measure(ish.Moved(oracle(), parameters), EXACT)
    assert moved.loss == report().loss, f"the loss was {report().loss}, and is {moved.loss}: another function"
    for name in ("normalized_sharpness", "parameter_normalized_sharpness"):
        change = relative_change(report()[name].value, moved[name].value)
        # the tolerance of the solver; powers of two change nothing else
        assert change <= 1e-12, f"{name} was {report()[name].value}, and is {moved[name].value} ({change:.1e})"
    before, after = report()["hessian_trace"].value, moved["hessian_trace"].value
    assert after > 10 * before, f"the trace was {before}, and is {after}"


def scaled_by(norm: str) -> tuple[str, str]:
    return f"{norm}.normalization.weight", f"{norm}.normalization.bias"


def hidden_channels() -> list[UnitRescaling]:
    """Within a block: from the first batch norm to the second convolution."""
    return [UnitRescaling(scaled_by(f"{b}.layer.0"), (f"{b}.layer.1.convolution.weight",)) for b in BLOCKS]


def residual_streams() -> list[UnitRescaling]:
    """Across blocks: what all blocks of a stage add to, until the next stage takes it."""
    return [UnitRescaling(writers(stage), readers(stage)) for stage in range(4)]


def writers(stage: int) -> tuple[str, ...]:
    first, second = BLOCKS[2 * stage : 2 * stage + 2]
    entrance = f"{first}.shortcut" if stage else "resnet.embedder.embedder"
    return (*scaled_by(entrance), *scaled_by(f"{first}.layer.1"), *scaled_by(f"{second}.layer.1"))


def readers(stage: int) -> tuple[str, ...]:
    inside = BLOCKS[2 * stage + 1 : 2 * stage + 2] if stage else BLOCKS[:2]
    convolutions = [f"{block}.layer.0.convolution.weight" for block in inside]
    if stage == 3:
        return (*convolutions, "classifier.1.weight")
    following = BLOCKS[2 * stage + 2]
    return (*convolutions, f"{following}.layer.0.convolution.weight", f"{following}.shortcut.convolution.weight")


def test_smooth_activations_leave_only_the_classifier_exact() -> None:
    smooth = ish.oracle(*resnet18(examples=4, activation="gelu"))
    exact = exact_groups(smooth, curvature_defects(smooth))
    assert exact == {"classifier.1.weight", "classifier.1.bias"}, f"certified: {sorted(exact)}"
