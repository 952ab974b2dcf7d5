"""Oracles of JAX functions, and of models of every library with an adapter, pass all checks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.testing import check_oracle
from invariant_sharpness_jax import from_equinox, from_linen, from_nnx
from zoo.jax_networks import Network, convolutional_network, random_parameters, residual_network

RANDOM = np.random.default_rng(0)
ROWS, IMAGES = RANDOM.normal(size=(6, 4)), RANDOM.normal(size=(6, 6, 6, 2))


def perceptron() -> Any:
    return Network(jax.nn.gelu).apply, random_parameters(), ROWS


def layer(*shape: int) -> Any:
    return {"kernel": RANDOM.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))}


def with_bias(kernel: Any) -> Any:
    return {**kernel, "bias": RANDOM.normal(size=kernel["kernel"].shape[-1])}


def norm(width: int) -> Any:
    return {"scale": RANDOM.uniform(0.5, 2, width), "bias": RANDOM.normal(size=width)}


def statistics(width: int) -> Any:
    return {"mean": RANDOM.normal(size=width), "variance": RANDOM.uniform(0.5, 2, width)}


def convolutional() -> Any:
    fixed = {"norm": statistics(4)}
    parameters = {
        "a_first": with_bias(layer(3, 3, 2, 4)),
        "b_norm": norm(4),
        "c_grouped": layer(3, 3, 2, 6),
        "d_head": with_bias(layer(6, 3)),
    }
    return lambda tree, x: convolutional_network(tree, fixed, x), parameters, IMAGES


def residual() -> Any:
    fixed = {name: {"first_norm": statistics(n), "second_norm": statistics(n)} for name, n in WIDTHS.items()}
    blocks = {name: block(n) for name, n in WIDTHS.items()}
    blocks["strided"]["shortcut"] = layer(1, 1, 4, 6)
    parameters = {"stem": layer(3, 3, 2, 4), **blocks, "head": with_bias(layer(6, 3))}
    return lambda tree, x: residual_network(tree, fixed, x), parameters, IMAGES[:, :4, :4]


WIDTHS = {"plain": 4, "strided": 6}


def block(width: int) -> Any:
    kernels = {"first": layer(3, 3, 4, width), "second": layer(3, 3, width, width)}
    return {**kernels, "first_norm": norm(width), "second_norm": norm(width)}


def equinox_model() -> Any:
    equinox = pytest.importorskip("equinox", reason="Equinox is not installed")
    return *from_equinox(equinox.nn.MLP(4, 3, 5, depth=2, activation=jnp.tanh, key=jax.random.key(0))), ROWS


def nnx_model() -> Any:
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    layers = nnx.Conv(2, 4, (3, 3), **options), nnx.BatchNorm(4, **options), nnx.relu
    head = nnx.LinearGeneral((6, 6, 4), 3, axis=(1, 2, 3), **options)
    return *from_nnx(nnx.Sequential(*layers, nnx.Dropout(0.5, rngs=nnx.Rngs(1)), head)), IMAGES


def linen_model() -> Any:
    linen = pytest.importorskip("flax.linen", reason="Flax is not installed")
    dense = [linen.Dense(width, param_dtype=jnp.float64) for width in (5, 3)]
    module = linen.Sequential([dense[0], linen.LayerNorm(param_dtype=jnp.float64), linen.silu, dense[1]])
    return *from_linen(module, module.init(jax.random.key(0), ROWS)), ROWS


MODELS = {
    "perceptron": perceptron,
    "convolutional": convolutional,
    "residual": residual,
    "equinox": equinox_model,
    "nnx": nnx_model,
    "linen": linen_model,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_jax_oracles_pass(name: str) -> None:
    apply, parameters, x = MODELS[name]()
    oracle = ish.oracle(apply, (x, np.arange(6) % 3), parameters=parameters, batch_size=3)
    found = {r.check: r.message for r in check_oracle(oracle, on_fail="return") if r.status == "failed"}
    assert not found, f"{name}: {found}"
