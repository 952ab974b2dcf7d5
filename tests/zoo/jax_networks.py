"""Networks of the JAX tests in double precision, and dense derivatives that nothing in the library has a part in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from zoo.invariant_metrics import USUAL

jax.config.update("jax_enable_x64", True)

SIZES = (4, 5, 3, 3)
EXAMPLES = 11


@dataclass
class Network:
    """A plain chain of dense layers, which counts how often JAX traces it."""

    activation: Callable[[Any], Any] = jax.nn.relu
    traces: list[tuple[int, ...]] = field(default_factory=list)

    def apply(self, parameters: Any, x: Any) -> Any:
        self.traces.append(x.shape)
        layers = list(parameters.values())
        for layer in layers[:-1]:
            x = self.activation(x @ layer["kernel"] + layer["bias"])
        return x @ layers[-1]["kernel"] + layers[-1]["bias"]


def random_parameters(seed: int = 3, sizes: tuple[int, ...] = SIZES) -> dict[str, dict[str, Any]]:
    random = np.random.default_rng(seed)
    return {
        f"dense_{index}": {
            "bias": jnp.asarray(random.normal(size=n)),
            "kernel": jnp.asarray(random.normal(size=(m, n))),
        }
        for index, (m, n) in enumerate(pairwise(sizes))
    }


def random_data(loss: Any = "cross_entropy", examples: int = EXAMPLES) -> tuple[Any, Any]:
    random = np.random.default_rng(4)
    x = random.normal(size=(examples, SIZES[0]))
    labels, numbers = random.integers(0, 3, examples), random.normal(size=(examples, 3))
    return x, numbers if loss == "mse" else labels


def cross_entropy(outputs: Any, labels: Any) -> Any:
    """One softmax cross-entropy per example, by JAX itself."""
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)[:, 0]


def normalized_cross_entropy(outputs: Any, labels: Any) -> Any:
    """Equations (20)-(22), written down as they are printed."""
    deviation = jnp.sqrt(jnp.mean((outputs - jnp.mean(outputs, axis=1, keepdims=True)) ** 2, axis=1, keepdims=True))
    return cross_entropy(outputs / deviation, labels)


def squared_error(outputs: Any, targets: Any) -> Any:
    return jnp.mean((outputs - targets) ** 2, axis=1)


LOSSES = {
    "cross_entropy": cross_entropy,
    "normalized_cross_entropy": normalized_cross_entropy,
    "mse": squared_error,
}


def dense_hessian(apply: Any, parameters: Any, x: Any, y: Any, loss: Any) -> Any:
    """The whole Hessian of the mean loss, in the order of the leaves."""
    theta, unravel = jax.flatten_util.ravel_pytree(parameters)
    return np.asarray(jax.jit(jax.hessian(lambda t: jnp.mean(loss(apply(unravel(t), x), y))))(theta))


def dense_jacobian(apply: Any, parameters: Any, x: Any) -> Any:
    """The derivatives (n, M, P) of the outputs of every example."""
    theta, unravel = jax.flatten_util.ravel_pytree(parameters)
    return np.asarray(jax.jit(jax.jacrev(lambda t: apply(unravel(t), x)))(theta))


def example_gradients(apply: Any, parameters: Any, x: Any, y: Any, loss: Any) -> Any:
    """The gradient of the loss of every example, (n, P)."""
    theta, unravel = jax.flatten_util.ravel_pytree(parameters)
    return np.asarray(jax.jit(jax.jacrev(lambda t: loss(apply(unravel(t), x), y)))(theta))


def assert_equal_reports(ours: ish.CurvatureOracle, theirs: ish.CurvatureOracle) -> None:
    """Every metric, its error and its method."""
    values, expected = (ish.measure(oracle, USUAL, seed=5) for oracle in (ours, theirs))
    for name in expected:
        a, b = values[name], expected[name]
        assert a.value == pytest.approx(b.value, rel=1e-9), f"{name}: {a.value!r} in JAX, {b.value!r} elsewhere"
        assert a.method == b.method, f"{name}: {a.method!r} in JAX, {b.method!r} elsewhere"
        if b.standard_error is not None:
            assert a.standard_error == pytest.approx(b.standard_error, rel=1e-6), f"standard error of {name}"


def ordered(*items: tuple[str, Any]) -> Any:
    """A tree whose leaves keep this order, unlike those of a plain dictionary."""
    return OrderedDict(items)


def convolve(x: Any, kernel: Any, stride: int = 1, groups: int = 1, padding: int | None = None) -> Any:
    """Padded as torch does, by half of the kernel unless told otherwise."""
    around = kernel.shape[0] // 2 if padding is None else padding
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(around, around)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def normalize(x: Any, layer: Any, statistics: Any) -> Any:
    return (x - statistics["mean"]) / jnp.sqrt(statistics["variance"] + 1e-5) * layer["scale"] + layer["bias"]


def convolutional_network(parameters: Any, statistics: Any, x: Any) -> Any:
    """Convolution, batch norm, a grouped convolution with stride, max pooling, dense."""
    first, norm, grouped, head = parameters.values()
    x = normalize(convolve(x, first["kernel"]) + first["bias"], norm, statistics["norm"])
    x = convolve(jax.nn.relu(x), grouped["kernel"], stride=2, groups=2, padding=0)
    x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
    return jnp.mean(x, axis=(1, 2)) @ head["kernel"] + head["bias"]


def residual_network(parameters: Any, statistics: Any, x: Any) -> Any:
    """A convolution, a block around the identity, one around a convolution of stride 2, and a dense layer."""
    x = jax.nn.relu(convolve(x, parameters["stem"]["kernel"]))
    for name in ("plain", "strided"):
        x = residual_block(parameters[name], statistics[name], x)
    return jnp.mean(x, axis=(1, 2)) @ parameters["head"]["kernel"] + parameters["head"]["bias"]


def residual_block(layers: Any, statistics: Any, x: Any) -> Any:
    stride = 2 if "shortcut" in layers else 1
    shortcut = convolve(x, layers["shortcut"]["kernel"], stride) if "shortcut" in layers else x
    x = convolve(x, layers["first"]["kernel"], stride)
    x = jax.nn.relu(normalize(x, layers["first_norm"], statistics["first_norm"]))
    x = normalize(convolve(x, layers["second"]["kernel"]), layers["second_norm"], statistics["second_norm"])
    return jax.nn.relu(x + shortcut)
