"""Every method and every metric, on every engine, as bits: what a change of the inside must not move.

Record in two work trees on the same machine (bits differ between processors), then compare:

    python docs/experiments/bits.py record before.json     # in the one, with PYTHONPATH=.:backends
    python docs/experiments/bits.py record after.json      # in the other
    python docs/experiments/bits.py compare before.json after.json

Only names that version 0.1 has are used. An engine that is not installed is left out; Keras' engines run in processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402

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


def methods(oracle: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every method of every capability, where the model is and at another point."""
    host = oracle.to_numpy(oracle.parameters)
    rng = np.random.default_rng(11)
    moved = oracle.from_numpy({name: array * (1 + 0.1 * rng.normal(size=array.shape)) for name, array in host.items()})
    u, v = (oracle.from_numpy({k: rng.normal(size=a.shape) for k, a in host.items()}) for _ in range(2))
    names = frozenset(host)
    some = frozenset(list(host)[::2])
    for place, p in {"here": oracle.parameters, "moved": moved}.items():
        cotangents = rng.normal(size=oracle.outputs(p, 20).shape)
        yield f"{place} loss", lambda p=p: oracle.loss(p)
        yield f"{place} gradient", lambda p=p: oracle.gradient(p)
        yield f"{place} product", lambda p=p: oracle.hessian_vector_product(p, u)
        yield f"{place} products", lambda p=p: oracle.hessian_vector_products(p, [u, v, u + v])
        yield f"{place} gauss-newton product", lambda p=p: oracle.gauss_newton_vector_product(p, u)
        yield f"{place} gauss-newton diagonal", lambda p=p: oracle.gauss_newton_diagonal(p, names)
        yield f"{place} gauss-newton diagonal of some", lambda p=p: oracle.gauss_newton_diagonal(p, some)
        if oracle.samples_outputs:
            yield (
                f"{place} sampled diagonal",
                lambda p=p: oracle.sampled_gauss_newton_diagonal(p, names, range(2, 5), 7),
            )
        yield f"{place} second moment", lambda p=p: oracle.gradient_second_moment(p)
        yield f"{place} slopes", lambda p=p: oracle.directional_second_moment(p, v)
        yield f"{place} output curvature", lambda p=p: oracle.output_curvature(p, u, 3)
        yield f"{place} outputs", lambda p=p: oracle.outputs(p, 20)
        yield f"{place} pushforward", lambda p=p: oracle.jacobian_vector_product(p, u, 20)
        yield f"{place} pullback", lambda p=p, c=cotangents: oracle.vector_jacobian_product(p, c)
    yield "subset gradient", lambda: oracle.subset(range(3, 30, 2)).gradient(moved)


def metrics(oracle: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every metric of the library, by its public name, with its defaults and seed 1 where it takes one."""
    from inspect import signature

    import invariant_sharpness as ish

    for name in sorted(ish.METRICS):
        metric = getattr(ish, name)
        seed = {"seed": 1} if "seed" in signature(metric).parameters else {}
        yield f"metric {name}", lambda metric=metric, seed=seed: metric(oracle, **seed)


def numbers_of(found: Any, oracle: Any) -> Any:
    """All numbers of a result, in float64."""
    if isinstance(found, (list, tuple)):
        return np.concatenate([np.ravel(numbers_of(part, oracle)) for part in found])
    if hasattr(found, "arrays"):
        return np.concatenate([array.ravel() for array in oracle.to_numpy(found).values()])
    if hasattr(found, "per_group"):
        shares = [share.value for share in found.per_group.values()]
        return np.array([found.value, found.standard_error or 0.0, *shares], dtype=np.float64)
    return np.asarray(found, dtype=np.float64)


def measured(compute: Callable[[], Any], oracle: Any) -> dict[str, Any]:
    """A digest, and the numbers where they are few."""
    try:
        found = np.ravel(numbers_of(compute(), oracle)) + 0.0  # makes -0.0 positive
    except Exception as error:  # what is refused is recorded as such
        return {"raised": f"{type(error).__name__}: {error}"}
    digest = hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()[:16]
    return {"digest": digest, "numbers": [float(number) for number in found[:400]]}


def record_group(group: str) -> dict[str, Any]:
    """Everything about one engine, in this process."""
    warnings.simplefilter("ignore")
    if group.startswith("keras-"):
        os.environ["KERAS_BACKEND"] = group.removeprefix("keras-")
    import invariant_sharpness as ish

    found: dict[str, Any] = {}
    for name, make in ORACLES[group]():
        oracle = make()
        for what, compute in (*methods(oracle), *metrics(oracle)):
            found[f"{group} | {name} | {what}"] = measured(compute, oracle)
        with ish.memory_limit(20_000):
            found[f"{group} | {name} | small memory product"] = measured(
                lambda oracle=oracle: oracle.hessian_vector_product(oracle.parameters, oracle.parameters), oracle
            )
        print(group, name, "done", file=sys.stderr, flush=True)
    return found


def record(path: str, groups: list[str]) -> None:
    """Each engine in a process of its own, since Keras has one backend a process."""
    found: dict[str, Any] = {}
    for group in groups or GROUPS:
        run = subprocess.run([sys.executable, __file__, "group", group], stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(run.stdout)
    Path(path).write_text(json.dumps(found), encoding="utf-8")


def compare(before: str, after: str) -> int:
    """Print what moved, by how much relative to the largest number, and how many are equal."""
    old, new = (json.loads(Path(path).read_text(encoding="utf-8")) for path in (before, after))
    changed = {key for key in old.keys() & new.keys() if old[key].get("digest") != new[key].get("digest")}
    for key in sorted(changed):
        print(f"{_change(old[key], new[key]):>10}  {key}")
    for key in sorted(old.keys() ^ new.keys()):
        print(f"{'missing':>10}  {key}")
    print(f"{len(old.keys() & new.keys()) - len(changed)} equal bit by bit, {len(changed)} moved")
    return int(bool(changed))


def _change(old: dict[str, Any], new: dict[str, Any]) -> str:
    if "numbers" not in old or "numbers" not in new:
        return "refused" if "raised" in new else "measured"
    a, b = np.array(old["numbers"]), np.array(new["numbers"])
    if a.shape != b.shape:
        return "shape"
    return f"{np.abs(a - b).max() / max(np.abs(a).max(), 1e-300):.1e}"


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "record":
        record(arguments[0], arguments[1:])
    elif command == "group":
        print(json.dumps(record_group(arguments[0])))
    else:
        sys.exit(compare(*arguments))
