"""The losses of public reports on one weight: w = 3 on x = 1, 2, 3, 6, whose derivatives can be computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError
from zoo.installed import missing
from zoo.keras_programs.joint_losses import JOINT, of_batch

X = np.array([[1.0], [2.0], [3.0], [6.0]])
DATA = X, np.zeros(4)


def namespace(framework: str) -> Any:
    if framework == "torch":
        import array_api_compat.torch as xp
    else:
        import jax.numpy as xp
    return xp


def penalized(framework: str, loss: Any, data: Any = DATA, strength: float = 5.0, **options: Any) -> Any:
    """The oracle of w x, with a second output: a penalty on the weight, the same for every example."""
    if framework == "jax":
        import jax.numpy as jnp

        def apply(p: Any, x: Any) -> Any:
            penalty = strength * jnp.sum(p["w"] ** 2)
            return jnp.concatenate([x @ p["w"], jnp.full((len(x), 1), penalty)], axis=1)

        return ish.oracle(apply, data, loss, parameters={"w": jnp.asarray([[3.0]])}, **options)
    import torch

    model = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.constant_(model.weight, 3.0)

    def forward(model: Any, batch: Any) -> Any:
        x, targets = batch
        penalty = strength * model.weight.square().sum()
        return torch.cat([model(x), penalty.expand(len(x), 1)], dim=1), targets

    return ish.oracle(model, data, loss, forward=forward, **options)


EVERY = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing(name)), reason=f"{name} is not installed"))
    for name in ("torch", "jax")
]


@pytest.mark.parametrize("framework", EVERY)
@pytest.mark.parametrize(
    ("name", "curvature"), [("centered", 7.0), ("rolled", 18.0), ("opposite", 20.0), ("paired", 10.0)]
)
def test_loss_of_a_batch_has_the_curvature_of_the_whole(framework: str, name: str, curvature: float) -> None:
    """With x = 1, 2, 3, 6: twice the variance; the mean over rows of twice the squared differences."""
    loss = of_batch(JOINT[name], namespace(framework))
    oracle = penalized(framework, lambda o, t: loss(o[:, :1], t), strength=0.0, examples="batches")
    trace, norm = ish.hessian_trace(oracle), ish.hessian_spectral_norm(oracle)
    assert trace.value == pytest.approx(curvature, rel=1e-6), f"{trace}"
    assert norm.value == pytest.approx(curvature, rel=1e-6), f"{norm}"


@pytest.mark.parametrize("framework", EVERY)
@pytest.mark.parametrize("size", [1, 3, 4])
def test_penalty_as_an_output_has_all_derivatives(framework: str, size: int) -> None:
    """The mean of (w x)^2 + 5 w^2 is 17.5 w^2; the squared slopes times w^2 are (2 w^2 (x^2 + 5))^2."""
    oracle = penalized(framework, lambda o, _: o[:, 0] ** 2 + o[:, 1], batch_size=size)
    p = oracle.parameters
    slopes = 2 * 9 * (X[:, 0] ** 2 + 5)
    found = (oracle.loss(p), ish.hessian_trace(oracle).value, ish.hessian_spectral_norm(oracle).value)
    assert found == pytest.approx((17.5 * 9, 35.0, 35.0), rel=1e-5)
    assert ish.fisher_rao_norm(oracle).value == pytest.approx(np.mean(slopes**2), rel=1e-5), "the right value is 161514"


@pytest.mark.parametrize("framework", EVERY)
def test_several_targets_go_to_the_loss(framework: str) -> None:
    """Weights beside the targets: the mean of k (w x)^2 with k = 0, 1, 2, 3 has the curvature 2 mean(k x^2) = 65."""
    weights = np.arange(4.0)
    forms = {
        "tuple": ((X, (DATA[1], weights)), lambda t: t[1]),
        "dictionary": ((X, {"y": DATA[1], "k": weights}), lambda t: t["k"]),
        "batches": ([(X[:2], (DATA[1][:2], weights[:2])), [X[2:], [DATA[1][2:], weights[2:]]]], lambda t: t[1]),
    }
    for form, (data, of) in forms.items():
        oracle = penalized(framework, lambda o, t, of=of: of(t) * o[:, 0] ** 2, data, strength=0.0)
        assert ish.hessian_trace(oracle).value == pytest.approx(65.0, rel=1e-5), form
        assert oracle.subset([1, 3]).loss(oracle.parameters) == pytest.approx((36 + 3 * 324) / 2, rel=1e-5), form


@pytest.mark.parametrize("framework", EVERY)
def test_loss_of_one_target_refuses_several(framework: str) -> None:
    with pytest.raises(LossError, match=r"loss 'mse' takes one array of targets, but a batch has a tuple of 2"):
        penalized(framework, "mse", (X, (X, X)), strength=0.0)
