"""Roles and axes of parameters, as the modules describe them or as users give them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_torch.groups import parameter_groups


def groups_of(model: nn.Module) -> dict[str, ish.ParameterGroup]:
    names = frozenset(name for name, _ in model.named_parameters())
    return {group.name: group for group in parameter_groups(model, names)}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 2), ("matrix", (0,), (1,), 1, "input")),
        (nn.Conv1d(4, 6, 3, groups=2), ("convolution", (0,), (1,), 2, "input")),
        (nn.Conv3d(4, 4, 2, groups=4), ("convolution", (0,), (1,), 4, "input")),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), ("convolution", (1,), (0,), 2, "output")),
        (nn.Embedding(7, 3), ("embedding", (1,), (0,), 1, "input")),
        (nn.LayerNorm((2, 3)), ("norm", (0, 1), (), 1, "input")),
        (nn.BatchNorm2d(3), ("norm", (0,), (), 1, "input")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_role_and_axes_of_a_weight(module: nn.Module, expected: tuple[object, ...]) -> None:
    group = groups_of(module)["weight"]
    found = (group.role, group.output_axes, group.input_axes, group.channel_groups, group.divided_axes)
    assert found == expected


def test_every_bias_belongs_to_the_weight_of_its_own_outputs() -> None:
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 2),
            "transposed": nn.ConvTranspose2d(4, 6, 3, groups=2),
            "norm": nn.BatchNorm1d(3),
            "attention": nn.MultiheadAttention(4, 2),
            "recurrent": nn.LSTM(3, 2),
        }
    )
    owners = {name: group.owner for name, group in groups_of(model).items() if group.role == "bias"}
    assert owners == {
        "linear.bias": "linear.weight",
        "transposed.bias": "transposed.weight",
        "norm.bias": "norm.weight",
        "attention.in_proj_bias": "attention.in_proj_weight",
        "attention.out_proj.bias": "attention.out_proj.weight",
        "recurrent.bias_ih_l0": "recurrent.weight_ih_l0",
        "recurrent.bias_hh_l0": "recurrent.weight_hh_l0",
    }


def test_a_bias_of_another_length_has_no_owner() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 2))
            self.bias = nn.Parameter(torch.randn(5))

    assert groups_of(Odd())["bias"].owner is None


def test_the_bias_of_a_tied_layer_belongs_to_the_weight_under_its_first_name() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    groups = groups_of(nn.Sequential(first, second))
    assert list(groups) == ["0.weight", "0.bias", "1.bias"]
    assert groups["1.bias"].owner == "0.weight"


def inputs_first() -> nn.Module:
    """A dense layer that stores (inputs, outputs), as many frameworks do."""

    class InputsFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.kernel

    torch.manual_seed(0)
    return InputsFirst()


def test_given_groups_replace_those_of_the_library() -> None:
    given = ish.ParameterGroup("kernel", (4, 3), "matrix", output_axes=(1,), input_axes=(0,))
    data = (torch.randn(6, 4, dtype=torch.float64), torch.randint(0, 3, (6,)))
    assert ish.oracle(inputs_first(), data, groups=[given]).groups == (given,)


def test_a_given_group_of_another_shape_is_refused_by_name() -> None:
    given = ish.ParameterGroup("kernel", (3, 4), "matrix", output_axes=(0,), input_axes=(1,))
    data = (torch.randn(6, 4, dtype=torch.float64), torch.randint(0, 3, (6,)))
    with pytest.raises(ModelError, match=r"'kernel' was given with shape \(3, 4\), but in the model it is \(4, 3\)"):
        ish.oracle(inputs_first(), data, groups=[given])
