"""The convolutional network of Flax' MNIST example, 824 458 parameters in single precision, on handwritten digits."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_jax import from_nnx
from zoo.invariant_metrics import relative_change
from zoo.jax_networks import cross_entropy

pytestmark = pytest.mark.slow

EXAMPLES = 16


def network() -> Any:
    pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
    rngs = nnx.Rngs(0)
    convolutions = [nnx.Conv(m, n, (3, 3), param_dtype=jnp.float32, rngs=rngs) for m, n in ((1, 32), (32, 64))]
    dense = [nnx.Linear(m, n, param_dtype=jnp.float32, rngs=rngs) for m, n in ((7 * 7 * 64, 256), (256, 10))]
    features = [part for layer in convolutions for part in (layer, nnx.relu, pool)]
    return nnx.Sequential(*features, lambda x: x.reshape(len(x), -1), dense[0], nnx.relu, dense[1])


@cache
def digits() -> tuple[Any, Any]:
    """Images of 8 x 8 pixels, each pixel three times as large, with a margin: 28 x 28."""
    images, labels = load_digits(return_X_y=True)
    large = images[:EXAMPLES].reshape(-1, 8, 8).repeat(3, axis=1).repeat(3, axis=2) / 16
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))[..., None], labels[:EXAMPLES]


@cache
def measured() -> tuple[Any, Any, Any]:
    apply, parameters = from_nnx(network())
    return apply, parameters, ish.oracle(apply, digits(), parameters=parameters)


def test_every_group_is_certified() -> None:
    oracle = measured()[2]
    assert sum(group.size for group in oracle.groups) == 824_458
    defects = curvature_defects(oracle)
    assert exact_groups(oracle, defects) == {group.name for group in oracle.groups}, f"defects {defects}"


def test_the_largest_curvatures_are_those_of_the_hessian() -> None:
    """In double precision, by JAX alone."""
    apply, parameters, oracle = measured()
    x, y = map(jnp.asarray, digits())
    point = jax.tree.map(lambda array: array.astype(jnp.float64), parameters)
    slopes = jax.grad(lambda tree: jnp.mean(cross_entropy(apply(tree, x), y)))
    product = jax.jit(lambda direction: jax.jvp(slopes, (point,), (direction,))[1])
    for name, values in ish.hessian_diagonal(oracle).arrays.items():
        index = np.unravel_index(np.argmax(values), values.shape)
        unit = oracle.to_numpy(0.0 * oracle.parameters)
        unit[name][index] = 1.0
        column = product(tree_of(parameters, unit))
        expected = float(named(column)[name][index])
        assert values[index] == pytest.approx(expected, rel=1e-4), f"{name} at {index}: {values[index]}, not {expected}"


def named(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(str(key.key) for key in path): leaf for path, leaf in leaves}


def tree_of(tree: Any, arrays: dict[str, Any]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(tree), [jnp.asarray(arrays[name]) for name in named(tree)])


def rescaled(parameters: Any) -> Any:
    """The filters of the first convolution times powers of two, by which the second one divides its inputs."""
    factors = np.ldexp(np.float32(1), np.random.default_rng(0).integers(-8, 9, 32))
    first, second = parameters["layers"][0], parameters["layers"][3]
    layers = {
        **parameters["layers"],
        0: {"kernel": first["kernel"] * factors, "bias": first["bias"] * factors},
        3: {"kernel": second["kernel"] / factors[:, None], "bias": second["bias"]},
    }
    return {"layers": layers}


NORMALIZED = ["normalized_sharpness", "parameter_normalized_sharpness", "fisher_rao_norm"]


def test_normalized_metrics_do_not_move_with_the_scale_of_filters() -> None:
    """Not even in single precision, because powers of two round nothing."""
    _, parameters, oracle = measured()
    moved = ish.Moved(oracle, oracle.from_tree(rescaled(parameters)))
    assert oracle.loss(moved.parameters) == oracle.loss(oracle.parameters), "another function"
    before, after = (ish.measure(o, ["hessian_trace", *NORMALIZED]) for o in (oracle, moved))
    traces = [report["hessian_trace"].value for report in (before, after)]
    assert traces[1] > 2 * traces[0], f"the trace hardly moved: {traces}"
    for name in NORMALIZED:
        values = before[name].value, after[name].value
        assert values[0] > 0, f"{name} is {values[0]}"
        assert relative_change(*values) <= 1e-10, f"{name} moved from {values[0]!r} to {values[1]!r}"
