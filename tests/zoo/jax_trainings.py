"""A small network of JAX and its data, as training loops of Optax have them."""

from __future__ import annotations

import jax
import numpy as np
from jax import numpy as jnp

RNG = np.random.default_rng(0)
X, Y = jnp.asarray(RNG.normal(size=(48, 6)), dtype=jnp.float32), jnp.asarray(RNG.integers(0, 3, size=48))
Tree = dict[str, jax.Array]


def initial() -> Tree:
    keys = jax.random.split(jax.random.key(0))
    return {"w1": jax.random.normal(keys[0], (6, 5)) / 2, "w2": jax.random.normal(keys[1], (5, 3)) / 2}


def apply(parameters: Tree, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ parameters["w1"]) @ parameters["w2"]
