"""Degenerate but legitimate networks have the right limit: never a NaN, and no warning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from zoo.invariant_metrics import USUAL
from zoo.torch_networks import inputs, labels, network


def dead_units() -> nn.Module:
    model = network()
    with torch.no_grad():
        model[0].bias.fill_(-100)
    return model


def zero_layer() -> nn.Module:
    model = network()
    nn.init.zeros_(model[2].weight)
    return model


def all_zero() -> nn.Module:
    model = network()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


class Constant(nn.Module):
    """Outputs that no parameter moves."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :3])


OF_THE_LOSS = tuple(
    name
    for name, metric in ish.METRICS.items()
    if "parts of the data" not in metric.needs and metric.needs != "the weights alone"
)
"""The others compare minibatches, of which one example has none, or do not look at the loss."""

USED_BY_ALL = tuple(name for name in OF_THE_LOSS if name in USUAL)
"""Metrics that ask for every capability: where these are finite, the capabilities are."""

WEIGHTLESS = (
    "matrix_normalized_sharpness",
    "parameter_normalized_sharpness",
    "normalized_sharpness",
    "head_normalized_sharpness",
    "posterior_sharpness",
    "fisher_rao_norm",
    "relative_flatness",
    "worst_case_adaptive_sharpness",
    "average_adaptive_sharpness",
    "pacgen",
)


DEGENERATE: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "dead units": (dead_units, ()),
    "a zero layer": (zero_layer, ()),
    "all parameters zero": (all_zero, WEIGHTLESS),
    "a linear network": (lambda: nn.Linear(5, 3), ()),
    "two linear layers": (lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), ()),
}


@pytest.mark.parametrize(
    "names", [USED_BY_ALL, pytest.param(OF_THE_LOSS, marks=pytest.mark.slow)], ids=["usual", "all"]
)
@pytest.mark.parametrize("what", DEGENERATE)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("examples", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_degenerate_network_has_the_right_limit(what: str, loss: str, examples: int, names: tuple[str, ...]) -> None:
    build, zeros = DEGENERATE[what]
    targets = labels(examples) if loss == "cross_entropy" else inputs(examples, 3)
    report = ish.measure(ish.oracle(build(), (inputs(examples), targets), loss=loss), names)
    for name, estimate in report.estimates.items():
        assert np.isfinite(estimate.value), f"{name} is {estimate.value}"
        if name == "critical_sharpness" and not estimate.converged:  # the loss does not rise after any step
            assert estimate.value == 0.0, str(estimate)
            assert "higher after any step" in " ".join(estimate.notes), str(estimate)
            continue
        assert estimate.converged, f"{name} did not converge"
        assert (estimate.value == 0) == (name in zeros), f"{name} is {estimate.value}"


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_a_constant_is_refused(loss: str) -> None:
    oracle = ish.oracle(Constant(), (inputs(8), labels(8) if loss == "cross_entropy" else inputs(8, 3)), loss=loss)
    with pytest.raises(ModelError, match="no output depends on any of the measured parameters"):
        ish.measure(oracle, USED_BY_ALL)


def test_dead_units_count_nothing() -> None:
    """Only the layers behind the dead one have curvature: the value is that of the network without it."""
    model = dead_units()
    rest = nn.Sequential(*model[2:])
    expected = ish.normalized_sharpness(ish.oracle(rest, (torch.zeros(8, 7), labels()))).value
    assert ish.normalized_sharpness(ish.oracle(model, (inputs(), labels()))).value == pytest.approx(expected, rel=1e-6)


def test_perfect_fit_has_no_fisher_rao_norm_but_curvature() -> None:
    model = network().double()
    x = inputs().double()
    report = ish.measure(ish.oracle(model, (x, model(x).detach()), loss="mse"))
    assert (report.loss, report["fisher_rao_norm"].value) == (0, 0)
    assert report["hessian_trace"].value > 0


def test_trace_of_linear_regression_is_its_closed_form() -> None:
    x = inputs().double()
    oracle = ish.oracle(nn.Linear(5, 1).double(), (x, x[:, :1]), loss="mse")
    expected = 2 * float((x**2).sum(dim=1).mean() + 1)
    assert ish.hessian_trace(oracle).value == pytest.approx(expected, rel=1e-14)
