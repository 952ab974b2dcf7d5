"""Work C: an encoder of four blocks and width 32, with 35,114 parameters, in PyTorch, JAX and Keras.

It sees 512 of scikit-learn's digits, whose rows are eight positions, in float32 and batches of 256. Weights are random, which does not matter for the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

EXAMPLES, BATCH = 512, 256
POSITIONS, WIDTH, HEADS, WIDE, BLOCKS = 8, 32, 4, 64, 4

Arrays = dict[str, Any]


def batches() -> list[tuple[Any, Any]]:
    """Images of shape (256, 8, 8), and labels."""
    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target
    return [(images[n : n + BATCH], labels[n : n + BATCH]) for n in range(0, EXAMPLES, BATCH)]


def torch_encoder() -> Any:
    """A ``torch.nn.Module`` with layers of ``torch.nn``, whose projections are packed."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(POSITIONS, WIDTH)
            self.places = nn.Parameter(0.1 * torch.randn(POSITIONS, WIDTH))
            self.blocks = nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(
                        WIDTH, HEADS, WIDE, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                    )
                    for _ in range(BLOCKS)
                )
            )
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.blocks(self.embed(x) + self.places)).mean(1))

    torch.manual_seed(0)
    return Encoder().eval()


def torch_batches() -> list[tuple[Any, Any]]:
    """All batches, as tensors."""
    import torch

    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches()]


def jax_encoder() -> tuple[Callable[[Arrays, Any], Any], Arrays]:
    """``apply`` and its parameters."""
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(0)

    def dense(inputs: int, outputs: int) -> Arrays:
        kernel = random.normal(size=(inputs, outputs)) / inputs**0.5
        return {"kernel": jnp.asarray(kernel, dtype=jnp.float32), "bias": jnp.zeros(outputs)}

    def norm() -> Arrays:
        return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}

    def block() -> Arrays:
        projections = {name: dense(WIDTH, WIDTH) for name in ("query", "key", "value", "output")}
        wide = {"up": dense(WIDTH, WIDE), "down": dense(WIDE, WIDTH)}
        return projections | wide | {"norm1": norm(), "norm2": norm()}

    places = jnp.asarray(0.1 * random.normal(size=(POSITIONS, WIDTH)), dtype=jnp.float32)
    parameters = {f"block{n}": block() for n in range(BLOCKS)}
    parameters |= {"embed": dense(POSITIONS, WIDTH), "places": places, "norm": norm(), "head": dense(WIDTH, 10)}

    def linear(p: Arrays, x: Any) -> Any:
        return x @ p["kernel"] + p["bias"]

    def normalized(p: Arrays, x: Any) -> Any:
        centered = x - x.mean(-1, keepdims=True)
        return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def attention(p: Arrays, x: Any) -> Any:
        split = (*x.shape[:2], HEADS, WIDTH // HEADS)
        query, key, value = (linear(p[name], x).reshape(split) for name in ("query", "key", "value"))
        weights = jax.nn.softmax(jnp.einsum("nphd,nqhd->nhpq", query, key) / (WIDTH / HEADS) ** 0.5)
        return linear(p["output"], jnp.einsum("nhpq,nqhd->nphd", weights, value).reshape(x.shape))

    def apply(p: Arrays, x: Any) -> Any:
        x = linear(p["embed"], x) + p["places"]
        for n in range(BLOCKS):
            own = p[f"block{n}"]
            x = x + attention(own, normalized(own["norm1"], x))
            x = x + linear(own["down"], jax.nn.gelu(linear(own["up"], normalized(own["norm2"], x))))
        return linear(p["head"], normalized(p["norm"], x).mean(1))

    return apply, parameters


def keras_encoder() -> Any:
    """A ``keras.Model``; the positions are looked up in a table."""
    import keras
    from keras import layers

    inputs = layers.Input((POSITIONS, POSITIONS))
    numbers = keras.ops.cast(0 * inputs[:, :, 0], "int32") + keras.ops.arange(POSITIONS, dtype="int32")
    x = layers.Dense(WIDTH)(inputs) + layers.Embedding(POSITIONS, WIDTH)(numbers)
    for _ in range(BLOCKS):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)
        y = layers.Dense(WIDE, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(WIDTH)(y)
    pooled = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(pooled))
