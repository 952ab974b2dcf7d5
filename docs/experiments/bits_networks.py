"""The reference networks of ``bits.py``, engine by engine; each is made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

KERAS_ENGINES = ("tensorflow", "jax", "torch")
GROUPS = ("numpy", "torch", "jax", *(f"keras-{name}" for name in KERAS_ENGINES))
SIZES = (5, 7, 6, 3)
EXAMPLES, BATCH = 37, 16

Make = Callable[[], Any]


def data(seed: int = 0) -> tuple[Any, Any, Any]:
    """Inputs, labels, and numbers to be fitted."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(EXAMPLES, SIZES[0])), rng.integers(0, 3, EXAMPLES), rng.normal(size=(EXAMPLES, 3))


def images(seed: int = 1) -> tuple[Any, Any]:
    """Images of two channels, channels first, with labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(EXAMPLES, 2, 8, 8)), rng.integers(0, 3, EXAMPLES)


def numpy_oracles() -> Iterator[tuple[str, Make]]:
    from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

    x, labels, numbers = data()
    rng = np.random.default_rng(3)
    pairs = list(pairwise(SIZES))
    weights = tuple(rng.normal(size=(m, n)) / np.sqrt(n) for n, m in pairs)
    network = ReluNetwork(weights, tuple(0.5 * rng.normal(size=m) for _, m in pairs))
    for loss in ("cross_entropy", "normalized_cross_entropy", "mse"):
        y = numbers if loss == "mse" else labels
        yield f"mlp {loss}", partial(NetworkOracle, network, x, y, loss, BATCH)


def torch_oracles() -> Iterator[tuple[str, Make]]:
    import torch
    from torch import nn

    import invariant_sharpness as ish

    def built(model: Any, batch: Any, dtype: str, **options: Any) -> Any:
        target = getattr(torch, dtype)
        parts = [torch.as_tensor(part) for part in batch]
        parts = [part.to(target) if part.is_floating_point() else part for part in parts]
        return ish.oracle(model.to(target).eval(), tuple(parts), batch_size=BATCH, **options)

    def mlp(act: type[nn.Module] = nn.ReLU) -> Any:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), act(), nn.Linear(7, 6), act(), nn.Linear(6, 3))

    def cnn() -> Any:
        torch.manual_seed(1)
        head = (nn.Flatten(), nn.Linear(6 * 16, 3))
        body = (nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        return nn.Sequential(*body, nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.ReLU(), *head)

    def norm() -> Any:
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))

    x, labels, numbers = data()
    smooth = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), ignore_index=1)
    for dtype in ("float64", "float32", "bfloat16"):
        yield f"mlp {dtype}", lambda dtype=dtype: built(mlp(), (x, labels), dtype)
        yield f"cnn {dtype}", lambda dtype=dtype: built(cnn(), images(), dtype)
    yield "norm float64", lambda: built(norm(), (x, labels), "float64")
    yield "mlp mse", lambda: built(mlp(nn.Tanh), (x, numbers), "float64", loss="mse")
    yield "mlp normalized", lambda: built(mlp(), (x, labels), "float64", loss="normalized_cross_entropy")
    yield "mlp weighted", lambda: built(mlp(), (x, labels), "float64", loss=smooth)
    yield "mlp callable", lambda: built(mlp(), (x, numbers), "float64", loss=lambda z, y: ((z - y) ** 4).sum(-1))


def jax_oracles() -> Iterator[tuple[str, Make]]:
    import jax
    import jax.numpy as jnp

    import invariant_sharpness as ish

    jax.config.update("jax_enable_x64", True)  # noqa: FBT003

    def mlp(p: Any, a: Any) -> Any:
        for layer in p[:-1]:
            a = jax.nn.relu(a @ layer["kernel"] + layer["bias"])
        return a @ p[-1]["kernel"] + p[-1]["bias"]

    def cnn(p: Any, a: Any) -> Any:
        form = ("NHWC", "HWIO", "NHWC")
        a = jax.nn.relu(jax.lax.conv_general_dilated(a, p["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=form))
        return a.reshape(len(a), -1) @ p["dense"]["kernel"] + p["dense"]["bias"]

    rng = np.random.default_rng(5)

    def dense(n: int, m: int) -> Any:
        return {"kernel": rng.normal(size=(n, m)) / np.sqrt(n), "bias": 0.1 * rng.normal(size=m)}

    x, labels, numbers = data()
    layers = [dense(n, m) for n, m in pairwise(SIZES)]
    kernels = {"conv": {"kernel": rng.normal(size=(3, 3, 2, 3)) / 4}, "dense": dense(3 * 64, 3)}
    pictures, classes = images()
    for dtype in ("float64", "float32", "bfloat16"):
        cast = partial(jax.tree.map, lambda a, dtype=dtype: jnp.asarray(a, dtype))
        yield (
            f"mlp {dtype}",
            lambda cast=cast: ish.oracle(mlp, (cast(x), labels), parameters=cast(layers), batch_size=BATCH),
        )
    wide = partial(jax.tree.map, jnp.asarray)
    rows = jnp.asarray(pictures.transpose(0, 2, 3, 1))
    yield "cnn float64", lambda: ish.oracle(cnn, (rows, classes), parameters=wide(kernels), batch_size=BATCH)
    yield "mlp mse", lambda: ish.oracle(mlp, (x, numbers), loss="mse", parameters=wide(layers), batch_size=BATCH)
    yield (
        "mlp callable",
        lambda: ish.oracle(
            mlp, (x, numbers), loss=lambda z, y: jnp.sum((z - y) ** 4, -1), parameters=wide(layers), batch_size=BATCH
        ),
    )


def keras_oracles() -> Iterator[tuple[str, Make]]:
    import keras

    import invariant_sharpness as ish

    x, labels, _ = data()
    pictures, classes = images()

    def built(model: Any, inputs: Any, targets: Any) -> Any:
        rng = np.random.default_rng(9)
        model.set_weights([rng.normal(size=w.shape) / max(1, w.shape[0]) ** 0.5 for w in model.get_weights()])
        return ish.oracle(model, (inputs, targets), batch_size=BATCH)

    def mlp(act: str) -> Any:
        keras.utils.clear_session()
        kinds = keras.layers.Dense(7, act), keras.layers.Dense(6, act), keras.layers.Dense(3)
        return keras.Sequential([keras.Input((SIZES[0],)), *kinds])

    def cnn() -> Any:
        keras.utils.clear_session()
        body = keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten()
        return keras.Sequential([keras.Input((8, 8, 2)), *body, keras.layers.Dense(3)])

    yield "mlp relu", lambda: built(mlp("relu"), x, labels)
    yield "mlp tanh", lambda: built(mlp("tanh"), x, labels)
    yield "cnn", lambda: built(cnn(), pictures.transpose(0, 2, 3, 1), classes)


ORACLES: dict[str, Callable[[], Iterator[tuple[str, Make]]]] = {
    "numpy": numpy_oracles,
    "torch": torch_oracles,
    "jax": jax_oracles,
    **{f"keras-{name}": keras_oracles for name in KERAS_ENGINES},
}
