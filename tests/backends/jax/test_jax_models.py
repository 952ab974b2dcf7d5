"""Models of Flax and Equinox: the same function, its groups, and a model that is left as it was."""

from __future__ import annotations

from typing import Any

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_jax import backend, from_equinox, from_linen, from_nnx
from zoo.jax_networks import cross_entropy

IMAGES = np.random.default_rng(0).normal(size=(6, 4, 4, 2))
LABELS = np.random.default_rng(1).integers(0, 3, 6)


class Convolutional(linen.Module):
    """The example of Flax: convolution, ReLU, pooling, dense; with batch norm and dropout."""

    @linen.compact
    def __call__(self, x: Any, *, train: bool) -> Any:
        x = linen.Conv(3, (3, 3), param_dtype=jnp.float64)(x)
        x = linen.BatchNorm(use_running_average=not train, param_dtype=jnp.float64)(x)
        x = linen.avg_pool(linen.relu(x), (2, 2), (2, 2)).reshape(len(x), -1)
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.Dense(3, param_dtype=jnp.float64)(x)


class Stateful(nnx.Module):
    """The same in the newer interface, with a grouped convolution."""

    def __init__(self) -> None:
        options: dict[str, Any] = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
        self.conv = nnx.Conv(2, 4, (3, 3), feature_group_count=2, **options)
        self.norm = nnx.BatchNorm(4, **options)
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.layers = nnx.List([nnx.Linear(16, 3, **options)])

    def __call__(self, x: Any) -> Any:
        x = nnx.avg_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2)).reshape(len(x), -1)
        return self.layers[0](self.dropout(x))


class ByExample(equinox.Module):
    """One example at a time, channels first, outputs first in the weights."""

    conv: equinox.nn.Conv2d
    dropout: equinox.nn.Dropout
    linear: equinox.nn.Linear

    def __init__(self) -> None:
        self.conv = equinox.nn.Conv2d(2, 4, 3, groups=2, key=jax.random.key(0))
        self.dropout = equinox.nn.Dropout(0.5)
        self.linear = equinox.nn.Linear(16, 3, key=jax.random.key(1))

    def __call__(self, x: Any) -> Any:
        return self.linear(self.dropout(jax.nn.relu(self.conv(jnp.moveaxis(x, -1, 0))).reshape(-1)))


def linen_model() -> tuple[Any, Any, Any]:
    module = Convolutional()
    variables = module.init(jax.random.key(0), IMAGES, train=False)
    return (*from_linen(module, variables, train=False), lambda x: module.apply(variables, x, train=False))


def nnx_model() -> tuple[Any, Any, Any]:
    module = Stateful()
    evaluated = nnx.clone(module)
    evaluated.eval()
    return (*from_nnx(module), evaluated)


def equinox_model() -> tuple[Any, Any, Any]:
    module = ByExample()
    return (*from_equinox(module), jax.vmap(equinox.nn.inference_mode(module)))


MODELS = {"linen": linen_model, "nnx": nnx_model, "equinox": equinox_model}
GROUPS = {
    "linen": {
        "BatchNorm_0.bias": ("bias", (0,), (), 1, "BatchNorm_0.scale"),
        "BatchNorm_0.scale": ("norm", (0,), (), 1, None),
        "Conv_0.bias": ("bias", (0,), (), 1, "Conv_0.kernel"),
        "Conv_0.kernel": ("convolution", (3,), (2,), 1, None),
        "Dense_0.bias": ("bias", (0,), (), 1, "Dense_0.kernel"),
        "Dense_0.kernel": ("matrix", (1,), (0,), 1, None),
    },
    "nnx": {
        "conv.bias": ("bias", (0,), (), 1, "conv.kernel"),
        "conv.kernel": ("convolution", (3,), (2,), 2, None),
        "layers.0.bias": ("bias", (0,), (), 1, "layers.0.kernel"),
        "layers.0.kernel": ("matrix", (1,), (0,), 1, None),
        "norm.bias": ("bias", (0,), (), 1, "norm.scale"),
        "norm.scale": ("norm", (0,), (), 1, None),
    },
    "equinox": {
        "conv.weight": ("convolution", (0,), (1,), 2, None),
        "conv.bias": ("bias", (0, 1, 2), (), 1, "conv.weight"),
        "linear.weight": ("matrix", (0,), (1,), 1, None),
        "linear.bias": ("bias", (0,), (), 1, "linear.weight"),
    },
}


@pytest.mark.parametrize(
    "kind", [kind if kind == "linen" else pytest.param(kind, marks=pytest.mark.slow) for kind in MODELS]
)
def test_a_module_is_measured_in_inference_mode(kind: str) -> None:
    """The loss is that of the module itself, its groups are described, and a ReLU network is exact."""
    apply, parameters, module = MODELS[kind]()
    before = [np.array(leaf) for leaf in jax.tree.leaves(parameters)]
    oracle = backend.oracle(apply, (IMAGES, LABELS), loss="cross_entropy", parameters=parameters)
    groups = {g.name: (g.role, g.output_axes, g.input_axes, g.channel_groups, g.owner) for g in oracle.groups}
    assert groups == GROUPS[kind], f"the groups of {kind} are {groups}"
    expected = float(jnp.mean(cross_entropy(module(IMAGES), jnp.asarray(LABELS))))
    value = oracle.loss(oracle.parameters)
    assert value == pytest.approx(expected, rel=1e-6), f"loss {value}, of the module itself {expected}"
    defects = curvature_defects(oracle)
    assert exact_groups(oracle, defects) == groups.keys(), f"defects {defects}"
    estimate = ish.normalized_sharpness(oracle)
    assert estimate.value > 0, str(estimate)
    after = jax.tree.leaves(parameters)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), "the parameters changed"


def test_an_nnx_module_stays_in_training_mode() -> None:
    module = Stateful()
    from_nnx(module)
    assert not module.norm.use_running_average, "the user's module was put into inference mode"
    assert not module.dropout.deterministic, "the user's module was put into inference mode"


def test_training_mode_is_refused() -> None:
    module = Convolutional()
    variables = module.init(jax.random.key(0), IMAGES, train=False)

    def normalized_by_the_batch(parameters: Any, x: Any) -> Any:
        state = {**variables, "params": parameters}
        return module.apply(state, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})[0]

    with pytest.raises(ish.InvariantSharpnessError, match="call the model in inference mode"):
        backend.oracle(normalized_by_the_batch, (IMAGES, LABELS), loss="cross_entropy", parameters=variables["params"])


def test_attention_kernels_are_matrices() -> None:
    module = linen.MultiHeadDotProductAttention(num_heads=2, param_dtype=jnp.float64)
    x = np.random.default_rng(0).normal(size=(4, 3, 6))
    apply, parameters = from_linen(module, module.init(jax.random.key(0), x))
    oracle = backend.oracle(apply, (x, x), loss="mse", parameters=parameters)
    axes = {g.name: (g.role, g.output_axes, g.input_axes) for g in oracle.groups if g.is_weight}
    projection = ("matrix", (1, 2), (0,))
    expected = {f"{name}.kernel": projection for name in ("key", "query", "value")}
    assert axes == {**expected, "out.kernel": ("matrix", (2,), (0, 1))}, str(axes)
    owners = {g.name: g.owner for g in oracle.groups if g.role == "bias"}
    assert all(owner == name.replace("bias", "kernel") for name, owner in owners.items()), str(owners)


@pytest.mark.parametrize("kind", ["linen", "nnx", "equinox"])
def test_a_module_in_the_place_of_a_function_is_told_its_adapter(kind: str) -> None:
    module = {"linen": Convolutional, "nnx": Stateful, "equinox": ByExample}[kind]()
    assert backend.accepts(module), f"a module of {kind} is not recognized"
    with pytest.raises(ish.InvariantSharpnessError, match=f"from_{kind}"):
        backend.oracle(module, (IMAGES, LABELS), loss="cross_entropy")
