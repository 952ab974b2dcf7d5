"""A loss that sees other examples, or the parameters, is refused by name on every backend; one that does not is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import SquaredError
from invariant_sharpness_numpy import ReluNetwork
from zoo.installed import missing
from zoo.keras_programs.joint_losses import JOINT, of_rows

X = np.random.default_rng(0).normal(size=(12, 3))
Y = np.arange(12.0) % 3

Build = Callable[..., ish.CurvatureOracle]


def torch_oracle(loss: Callable[[Any], Any], **options: Any) -> ish.CurvatureOracle:
    """A linear map in float64; ``loss`` makes a loss from the namespace."""
    import array_api_compat.torch as xp
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).double()
    return ish.oracle(model, (X, Y), loss(xp), **options)


def single_torch_oracle(loss: Callable[[Any], Any], **options: Any) -> ish.CurvatureOracle:
    """In float32, where outputs differ by little: the loss is looked at in float64."""
    import array_api_compat.torch as xp
    import torch

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return ish.oracle(model, (1e-2 * X, Y), loss(xp), **options)


def jax_oracle(loss: Callable[[Any], Any], **options: Any) -> ish.CurvatureOracle:
    """In JAX's default precision."""
    import jax.numpy as jnp

    parameters = {"W": jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))}
    return ish.oracle(lambda p, x: x @ p["W"], (X, Y), loss(jnp), parameters=parameters, **options)


BUILDS = [
    pytest.param(build, marks=pytest.mark.skipif(bool(missing(name)), reason=f"{name} is not installed"))
    for name, build in [("torch", torch_oracle), ("torch", single_torch_oracle), ("jax", jax_oracle)]
]


@pytest.mark.parametrize("build", BUILDS)
def test_one_number_for_all_examples_is_refused_with_the_option_that_takes_it(build: Build) -> None:
    with pytest.raises(LossError, match=r'returned shape \(\) for .*pass examples="batches"'):
        build(lambda xp: lambda outputs, _: xp.sum(outputs**2))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", JOINT)
def test_loss_that_sees_other_examples_is_refused(build: Build, name: str) -> None:
    words = rf"batch 0: loss '{name}' (gives|raised|returned).* no example has a loss of its own.*examples=\"batches\""
    with pytest.raises(LossError, match=words):
        build(lambda xp: of_rows(JOINT[name], xp))


@pytest.mark.parametrize("build", BUILDS)
def test_weights_of_the_whole_batch_are_told_to_go_beside_the_targets(build: Build) -> None:
    def weighted(xp: Any) -> Any:
        return lambda o, _: o[:, 0] ** 2 * xp.asarray(Y.tolist(), dtype=o.dtype)

    with pytest.raises(LossError, match=r"raised .*put what belongs to single examples beside the targets"):
        build(weighted)


def smooth(xp: Any) -> Any:
    """A loss of large outputs that nearly cancel, of every row alone."""
    return lambda o, t: (1e3 + o[:, 0] - t) ** 2 - 1e6 + xp.sum(xp.log(1 + xp.exp(o)), axis=1)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("size", [1, 5, 12])
def test_loss_of_its_own_example_is_measured(build: Build, size: int) -> None:
    oracle = build(smooth, batch_size=size)
    assert np.isfinite(oracle.loss(oracle.parameters)), "the loss is no number"


@pytest.mark.parametrize("build", BUILDS)
def test_loss_that_sees_others_in_the_last_batch_alone_is_refused(build: Build) -> None:
    def jumping(xp: Any) -> Any:
        return lambda o, t: o[:, 0] ** 2 + (xp.max(t) - t) * (o.shape[0] == 5)

    with pytest.raises(LossError, match="no example has a loss of its own"):
        build(jumping, batch_size=7)


class CenteredError(SquaredError):
    """A loss with closed-form derivatives, of a user's own class, that looks at the mean of the batch."""

    name = "centered"

    def values(self, xp: Any, outputs: Any, targets: Any, /) -> Any:
        return xp.mean((outputs - xp.mean(outputs)) ** 2, axis=1)


def test_closed_form_that_sees_other_examples_is_refused_on_numpy() -> None:
    network = ReluNetwork.initialize((3, 2), seed=0)
    words = r"batch 0 \(rows 0 to 11\): loss 'centered' gives.* build an invariant_sharpness_numpy.FunctionOracle"
    with pytest.raises(LossError, match=words):
        ish.oracle(network, (X, X[:, :2]), CenteredError())


def test_closed_form_that_sees_other_examples_is_refused_on_torch() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(LossError, match=r"loss 'centered' gives"):
        ish.oracle(torch.nn.Linear(3, 2).double(), (X, X[:, :2]), CenteredError())


def penalties() -> dict[str, Callable[[Any], Any]]:
    """From the model's weight to losses that depend on it."""
    torch = pytest.importorskip("torch")
    return {
        "weight decay": lambda w: lambda o, _: o[:, 0] ** 2 + 5 * w.square().sum(),
        "decay of zeros": lambda w: lambda o, _: o[:, 0] ** 2 + (w - w.detach()).square().sum(),
        "cut out of the graph": lambda w: lambda o, _: o[:, 0] ** 2 + 5 * w.detach().square().sum(),
        "a factor": lambda w: lambda o, _: o[:, 0] ** 2 * w.abs().max(),
        "the model once more": lambda w: lambda o, _: o[:, 0] ** 2 + (torch.ones(3, dtype=w.dtype) @ w.T)[0],
    }


@pytest.mark.parametrize(
    "name", ["weight decay", "decay of zeros", "cut out of the graph", "a factor", "the model once more"]
)
def test_loss_that_sees_the_parameters_is_refused(name: str) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2).double()
    before = model.weight.detach().clone()
    with pytest.raises(LossError, match=r"depends on 'weight'.* Let the model return the penalty as one more output"):
        ish.oracle(model, (X, Y), penalties()[name](model.weight))
    assert torch.equal(model.weight, before), "the weights were left changed"


def test_loss_that_sees_the_original_of_a_copy_is_refused() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    with pytest.raises(LossError, match="depends on 'weight'"):
        ish.oracle(model, (X, Y), lambda o, _: o[:, 0] ** 2 + model.weight.square().sum(), dtype="float64")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2)])
def test_loss_that_sees_the_parameters_is_refused_on_jax(shape: tuple[int, int], nested: bool) -> None:
    jax = pytest.importorskip("jax")
    W = jax.numpy.asarray(np.random.default_rng(1).normal(size=shape))

    def decayed(o: Any, _: Any) -> Any:
        return o[:, 0] ** 2 + 5 * jax.numpy.sum(W**2)

    data = X[:, : shape[0]], Y
    with pytest.raises(LossError, match="depends on 'W' beside the outputs"):
        ish.oracle(lambda p, x: x @ p["W"], data, jax.jit(decayed) if nested else decayed, parameters={"W": W})
