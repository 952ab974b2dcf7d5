"""Nothing is left out in silence: notes name what does not count, and where nothing counts there is an error."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_numpy import FunctionOracle

OF_WEIGHTS = (
    "matrix_normalized_sharpness",
    "normalized_sharpness",
    "parameter_normalized_sharpness",
    "weight_frobenius_norm",
)
X = np.random.default_rng(0).normal(size=(40, 4))
Y = np.random.default_rng(1).integers(0, 3, 40)


def quadratic_of(groups: list[ish.ParameterGroup]) -> FunctionOracle:
    """Half of the squared norm of all parameters."""
    arrays = {group.name: np.ones(group.shape) for group in groups}
    return FunctionOracle(
        arrays,
        loss=lambda p: sum(float((a**2).sum()) for a in p.values()) / 2,
        gradient=lambda p: p,
        hessian_vector_product=lambda _, v: v,
        groups=groups,
    )


OTHER = ish.ParameterGroup("experts", (2, 3, 2))
BIAS = ish.ParameterGroup("bias", (3,), "bias", output_axes=(0,))
GAIN = ish.ParameterGroup("gain", (3,), "norm", output_axes=(0,))
MATRIX = ish.ParameterGroup("matrix", (3, 2), "matrix", output_axes=(0,), input_axes=(1,))


@pytest.mark.parametrize("groups", [[OTHER], [BIAS], [BIAS, GAIN], [OTHER, BIAS]], ids=str)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_no_weight_is_an_error_that_names_what_there_is(groups: list[ish.ParameterGroup], name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} is a sum over weights.*{groups[0].name} \({groups[0].role}\)"):
        ish.METRICS[name](quadratic_of(groups))


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_what_has_no_known_role_is_named_beside_what_counts(name: str) -> None:
    found = ish.METRICS[name](quadratic_of([MATRIX, OTHER, BIAS]))
    assert found.value > 0
    (note,) = [note for note in found.notes if "not counted" in note]
    assert "experts" in note, note
    assert "bias" not in note, note


@pytest.mark.parametrize("policy", ["column", "parameterwise"])
def test_what_counts_by_the_policy_is_not_named(policy: Any) -> None:
    found = ish.normalized_sharpness(quadratic_of([MATRIX, OTHER, BIAS]), biases=policy)
    assert not [note for note in found.notes if "not counted" in note], found.notes


def torch_detached(how: str) -> ish.CurvatureOracle:
    import torch
    from torch import nn

    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3, dtype=torch.float64)

        def forward(self, x: Any) -> Any:
            if how == "no_grad":
                with torch.no_grad():
                    return self.layer(x)
            if how == "detach":
                return self.layer(x).detach()
            if how == "data":
                return x @ self.layer.weight.data.T
            return x[:, :3] + 0 * self.layer.bias.round()

    return ish.oracle(Detached(), (X, Y))


def jax_detached(how: str) -> ish.CurvatureOracle:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    functions: dict[str, Callable[[Any, Any], Any]] = {
        "stop_gradient": lambda p, x: jax.lax.stop_gradient(x @ p["W"]),
        "constant": lambda _, x: x[:, :3],
        "rounded": lambda p, x: x @ jnp.round(p["W"]),
    }
    return ish.oracle(functions[how], (X, Y), parameters={"W": np.ones((4, 3))})


DETACHED = [
    *[("torch", how) for how in ("no_grad", "detach", "data", "round")],
    *[("jax", how) for how in ("stop_gradient", "constant", "rounded")],
]


@pytest.mark.parametrize(("framework", "how"), DETACHED)
def test_outputs_that_depend_on_no_parameter_are_an_error(framework: str, how: str) -> None:
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    oracle = {"torch": torch_detached, "jax": jax_detached}[framework](how)
    for metric in (ish.hessian_trace, ish.normalized_sharpness, ish.hessian_spectral_norm, ish.fisher_rao_norm):
        with pytest.raises(ModelError, match="no output depends on any of the measured parameters"):
            metric(oracle)


def test_a_derivative_that_is_zero_by_chance_is_none() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(4, 1, bias=False, dtype=torch.float64)
    targets = model(torch.from_numpy(X)).detach()
    oracle = ish.oracle(model, (X, targets), "mse")
    assert oracle.gradient(oracle.parameters).norm() == 0
    assert ish.hessian_trace(oracle).value > 0
