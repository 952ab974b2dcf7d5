"""Small float64 JAX networks with smooth nonlinearities, each with the parameters that belong to no layer which every example passes once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zoo.jax_networks import convolve

Array = jax.Array
Parameters = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A network of 3 outputs: its function, the shapes of its parameters, what it takes, and what is outside of layers."""

    apply: Callable[[Parameters, Array], Array]
    shapes: dict[str, tuple[int, ...]]
    input: tuple[int, ...]
    outside: frozenset[str] = frozenset()
    tokens: int | None = None

    def problem(self, examples: int = 6) -> tuple[Parameters, Any, Any]:
        """Parameters, inputs and labels."""
        random = np.random.default_rng(2)
        size = (examples, *self.input)
        x = random.normal(size=size) if self.tokens is None else random.integers(0, self.tokens, size)
        parameters = {name: jnp.asarray(random.normal(size=shape) / 2) for name, shape in self.shapes.items()}
        return parameters, x, random.integers(0, 3, examples)


def dense(p: Parameters, name: str, x: Array) -> Array:
    return x @ p[name] + p[f"{name}_bias"]


def of_dense(inputs: int, outputs: int, *names: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names, (inputs, outputs)) | {f"{name}_bias": (outputs,) for name in names}


def chain(activation: Callable[[Array], Array], p: Parameters, x: Array) -> Array:
    return dense(p, "head", activation(dense(p, "second", activation(dense(p, "first", x)))))


CHAIN = of_dense(4, 6, "first") | of_dense(6, 5, "second") | of_dense(5, 3, "head")


def layer_norm(p: Parameters, name: str, x: Array) -> Array:
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[name] + p[f"{name}_shift"]


def root_mean_square_norm(p: Parameters, name: str, x: Array) -> Array:
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p[name]


def attended(p: Parameters, queries: Array, x: Array, mask: Array | None = None) -> Array:
    """Two heads."""
    query, key, value = (
        h.reshape(len(h), -1, 2, 3).swapaxes(1, 2)
        for h in (dense(p, "query", queries), dense(p, "key", x), dense(p, "value", x))
    )
    scores = query @ key.swapaxes(2, 3) / 2
    weights = jax.nn.softmax(scores if mask is None else jnp.where(mask, scores, -jnp.inf))
    return dense(p, "output", (weights @ value).swapaxes(1, 2).reshape(len(x), -1, 6))


ATTENTION = of_dense(6, 6, "query", "key", "value", "output")


def encoder(p: Parameters, x: Array) -> Array:
    x = dense(p, "embed", x) + p["position"]
    y = layer_norm(p, "norm1", x)
    x = x + attended(p, y, y)
    x = x + dense(p, "down", jax.nn.gelu(dense(p, "up", layer_norm(p, "norm2", x))))
    return dense(p, "head", x.mean(1))


NORMS = dict.fromkeys(("norm1", "norm1_shift", "norm2", "norm2_shift"), (6,))
ENCODER = of_dense(4, 6, "embed") | {"position": (3, 6)} | NORMS | ATTENTION | of_dense(6, 6, "up", "down")


def decoder(p: Parameters, x: Array) -> Array:
    """Tokens, and positions that are looked up in a longer table."""
    x = p["table"][x] + p["places"][jnp.arange(x.shape[1])]
    y = root_mean_square_norm(p, "norm1", x)
    x = x + attended(p, y, y, jnp.tril(jnp.ones((y.shape[1], y.shape[1]), dtype=bool)))
    y = root_mean_square_norm(p, "norm2", x)
    return dense(p, "head", (x + (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"])[:, -1])


GATED = dict.fromkeys(("gate", "up", "down"), (6, 6)) | {"norm1": (6,), "norm2": (6,)}
DECODER = {"table": (9, 6)} | GATED | ATTENTION | of_dense(6, 3, "head") | {"places": (5, 6)}


def convolutional(p: Parameters, x: Array) -> Array:
    """Convolution, group norm, squeeze and excitation, a grouped convolution."""
    x = convolve(x, p["first"], padding=0) + p["first_bias"]
    grouped = x.reshape(*x.shape[:3], 2, 2)
    centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
    grouped = centred / jnp.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    x = jax.nn.silu(grouped.reshape(x.shape) * p["norm"] + p["norm_shift"])
    gates = jax.nn.sigmoid(dense(p, "expand", jax.nn.silu(dense(p, "squeeze", x.mean((1, 2))))))
    x = jax.nn.gelu(convolve(x * gates[:, None, None], p["second"], groups=2, padding=0) + p["second_bias"])
    return dense(p, "head", x.mean((1, 2)))


CONVOLUTIONS = {"first": (2, 2, 2, 4), "first_bias": (4,), "norm": (4,), "norm_shift": (4,)}
CONVOLUTIONS |= of_dense(4, 2, "squeeze") | of_dense(2, 4, "expand")
CONVOLUTIONS |= {"second": (2, 2, 2, 4), "second_bias": (4,)} | of_dense(4, 3, "head")


def crossed(p: Parameters, x: Array) -> Array:
    """Attention of latent queries, the first of more positions than are taken, and one matrix that is used twice."""
    x = jax.nn.gelu(dense(p, "embed", x) + p["position"][: x.shape[1]])
    latents = jnp.broadcast_to(p["latents"], (len(x), 2, 6))
    x = attended(p, latents, x).mean(1)
    return dense(p, "head", jax.nn.gelu(jax.nn.gelu(x @ p["twice"]) @ p["twice"]))


CROSSED = of_dense(4, 6, "embed") | {"latents": (2, 6), "twice": (6, 6)} | ATTENTION | of_dense(6, 3, "head")
CROSSED |= {"position": (4, 6)}


def skipping(p: Parameters, x: Array) -> Array:
    """The outputs of the second layer are multiplied before its bias is added, and after."""
    x = jax.nn.gelu(dense(p, "first", x)) @ p["second"]
    return jnp.tanh(x + p["second_bias"]) * x


CASES: dict[str, Case] = {
    "gelu": Case(partial(chain, jax.nn.gelu), CHAIN, (4,)),
    "silu": Case(partial(chain, jax.nn.silu), CHAIN, (4,)),
    "convolution": Case(convolutional, CONVOLUTIONS, (4, 4, 2)),
    "encoder": Case(encoder, ENCODER | of_dense(6, 3, "head"), (3, 4)),
    "decoder": Case(decoder, DECODER, (4,), tokens=9),
    "looked at before the bias": Case(skipping, of_dense(4, 6, "first") | of_dense(6, 3, "second"), (4,)),
    "cross-attention": Case(crossed, CROSSED, (3, 4), frozenset({"latents", "query", "query_bias", "twice"})),
}
