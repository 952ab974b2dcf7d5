"""Networks in which nothing can be found, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import MissingCapabilityError, ModelError, NonFiniteError
from invariant_sharpness.symmetries import find_symmetries
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork

X, Y = (
    torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    torch.zeros(8, dtype=torch.int64),
)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


def test_an_oracle_that_does_not_show_its_outputs_is_told_what_it_lacks() -> None:
    oracle = FunctionOracle(
        {"w": np.ones(3)},
        loss=lambda p: float(np.sum(p["w"] ** 2)),
        gradient=lambda p: {"w": 2 * p["w"]},
        hessian_vector_product=lambda _, v: {"w": 2 * v["w"]},
    )
    with pytest.raises(
        MissingCapabilityError, match=r"find_symmetries needs .*vector_jacobian_product.*JacobianOracle"
    ):
        find_symmetries(oracle)


def test_derivatives_that_are_not_finite_are_named() -> None:
    class Root(nn.Module):
        """Of numbers that are positive in the model and of any sign elsewhere."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
            self.inner = linear()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * self.scale.sqrt()

    with pytest.raises(NonFiniteError, match="NaN or infinite derivatives at random parameters"):
        find_symmetries(ish.oracle(Root(), (X, Y)))


def test_a_network_with_nan_is_refused() -> None:
    model = linear()
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match="weight"):
        find_symmetries(ish.oracle(model, (X, Y)))


def test_a_frozen_network_is_refused() -> None:
    with pytest.raises(ModelError, match="requires_grad"):
        find_symmetries(ish.oracle(linear().requires_grad_(False), (X, Y)))


def test_one_layer_has_none_and_says_so() -> None:
    found = find_symmetries(ish.oracle(linear(), (X, Y)))
    assert len(found) == 0, f"found {found}"
    assert str(found).startswith("0 rescaling symmetries"), str(found)
    assert found.complete, "one layer was not searched completely"


def test_the_rescaling_of_nothing_changes_nothing() -> None:
    oracle = ish.oracle(linear(), (X, Y))
    moved = oracle.to_numpy(find_symmetries(oracle).random().apply(oracle.parameters))
    assert all(np.array_equal(moved[name], array) for name, array in oracle.to_numpy(oracle.parameters).items())


def test_frozen_parts_are_not_moved() -> None:
    """What follows the units is frozen, so the units cannot be rescaled."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    model[4].requires_grad_(False)
    found = find_symmetries(ish.oracle(model, (X, Y)))
    expected = {f"0.weight[{i}], 0.bias[{i}] up, 2.weight[:, {i}] down" for i in range(6)}
    assert set(map(str, found)) == expected, f"found {found}"


def test_outputs_that_are_constant_leave_everything_idle() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.0 * self.inner(x) + 1.0

    found = find_symmetries(ish.oracle(Constant(), (X, Y)))
    assert (len(found), found.idle) == (0, 10), f"{len(found)} found, {found.idle} of 3 + 4 + 3 idle"


def test_old_name_of_the_number_of_unknowns_is_taken_with_a_warning() -> None:
    oracle = NetworkOracle(ReluNetwork.initialize((3, 4, 2), seed=0), np.eye(3), np.arange(3) % 2)
    with pytest.warns(DeprecationWarning, match="most_unknowns"):
        old = find_symmetries(oracle, most_unknowns=30)  # type: ignore[call-arg]
    assert str(old) == str(find_symmetries(oracle, max_unknowns=30))
