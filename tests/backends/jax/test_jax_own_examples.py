"""Functions that mix the examples of a batch, and derivatives of the user's own, are refused by name; innocent ones are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ModelError
from invariant_sharpness_jax.own_derivatives import has_own_derivatives

X, Y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 3
PARAMETERS = {
    name: jnp.asarray(np.random.default_rng(seed).normal(size=shape))
    for seed, (name, shape) in enumerate({"first": (3, 5), "second": (5, 3)}.items())
}


@jax.custom_vjp
def reversed_gradient(h: Any) -> Any:
    return h


reversed_gradient.defvjp(lambda h: (h, None), lambda _, g: (-g,))


@jax.custom_jvp
def through_sign(h: Any) -> Any:
    return jnp.sign(h)


through_sign.defjvp(lambda primals, tangents: (jnp.sign(primals[0]), tangents[0]))


@jax.custom_jvp
def exponential(h: Any) -> Any:
    return jnp.exp(h)


exponential.defjvp(lambda primals, tangents: (jnp.exp(primals[0]), jnp.exp(primals[0]) * tangents[0]))

LIARS: dict[str, Callable[[Any], Any]] = {
    "reversal": reversed_gradient,
    "within a loop": lambda h: jax.lax.fori_loop(0, 2, lambda _, z: through_sign(z) + z, h),
    "sign": through_sign,
    "straight through": lambda h: h + jax.lax.stop_gradient(jnp.round(8 * h) / 8 - h),
    "stopped": jax.lax.stop_gradient,
    "compiled": jax.jit(lambda h: 0.5 * h + jax.lax.stop_gradient(0.5 * h)),
}
INNOCENT: dict[str, Callable[[Any], Any]] = {
    "right": exponential,
    "relu6": jax.nn.relu6,
    "softmax": lambda h: jax.nn.softmax(h * 3),
    "shifted by hand": lambda h: jnp.exp(h - jax.lax.stop_gradient(h.max())) * jnp.exp(jax.lax.stop_gradient(h.max())),
}
MIXING: dict[str, Callable[[Any], Any]] = {
    "mean": lambda h: h - h.mean(0),
    "opposite": lambda h: h - jnp.roll(h, len(h) // 2, 0),
    "earlier": lambda h: jnp.cumsum(h, 0),
    "rank": lambda h: h * jnp.argsort(jnp.argsort(h, 0), 0),
}


def oracle(between: Callable[[Any], Any], **options: Any) -> ish.CurvatureOracle:
    def apply(p: Any, x: Any) -> Any:
        return between(jnp.tanh(x @ p["first"])) @ p["second"]

    return ish.oracle(apply, (X, Y), parameters=PARAMETERS, **options)


@pytest.mark.parametrize("name", LIARS)
def test_derivative_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="that JAX computes for this model are not those of its outputs"):
        oracle(LIARS[name])


@pytest.mark.parametrize("name", INNOCENT)
def test_right_derivative_is_not_accused(name: str) -> None:
    assert oracle(INNOCENT[name]) is not None


@pytest.mark.parametrize("name", MIXING)
def test_model_that_mixes_examples_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r'other outputs in a smaller batch.*examples="batches"'):
        oracle(MIXING[name])
    assert oracle(MIXING[name], examples="batches").examples == 1


MARKED: dict[str, Callable[[Any, Any], Any]] = {
    "mean of the marked": lambda h, m: h - m * (m * h).sum(0) / jnp.maximum(m.sum(), 1),
    "sum of the marked": lambda h, m: h + m * (m * h).sum(0) ** 2,
    "the marked before": lambda h, m: h + m * jnp.cumsum(m * h, 0),
}


@pytest.mark.parametrize("name", MARKED)
def test_model_that_mixes_examples_of_a_later_batch_alone_is_refused(name: str) -> None:
    x = np.abs(np.random.default_rng(1).normal(size=(24, 3)))
    x[14:, 0] *= -1

    def apply(p: Any, x: Any) -> Any:
        return MARKED[name](jnp.tanh(x @ p["first"]), x[:, :1] < 0) @ p["second"]

    batches = [(x[:12], Y), (x[12:], Y)]
    with pytest.raises(ModelError, match=r"^batch 1: the same examples have other outputs"):
        ish.oracle(apply, batches, parameters=PARAMETERS)


@pytest.mark.parametrize("function", [jax.nn.relu, jax.nn.softmax, jax.nn.logsumexp, jax.nn.gelu, jax.nn.silu])
def test_functions_of_packages_need_no_differences(function: Callable[[Any], Any]) -> None:
    assert not has_own_derivatives(lambda h: function(3 * h), jnp.ones(4)), "what is compiled for them costs seconds"
    assert has_own_derivatives(lambda h: jax.jit(reversed_gradient)(function(3 * h)), jnp.ones(4))
