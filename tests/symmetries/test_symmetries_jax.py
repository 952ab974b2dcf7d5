"""The symmetries of functions in JAX and of Flax's modules, against those derived by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries, find_symmetries
from invariant_sharpness_jax import from_linen
from zoo.jax_networks import Network, random_data, random_parameters

PRECISIONS = {"double": jnp.float64, "single": jnp.float32}
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


class Images(linen.Module):
    """A grouped convolution of two inputs and three outputs in each group; channels last, so that they alternate in the columns."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.relu(linen.Conv(4, (3, 3), param_dtype=x.dtype)(x))
        x = linen.relu(linen.Conv(6, (2, 2), feature_group_count=2, param_dtype=x.dtype)(x))
        return linen.Dense(3, param_dtype=x.dtype)(linen.max_pool(x, (2, 2), (2, 2)).reshape(len(x), -1))


class Tokens(linen.Module):
    """Two heads of width two behind a layer norm."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.LayerNorm(param_dtype=x.dtype, name="norm")(x)
        heads = linen.MultiHeadDotProductAttention(2, qkv_features=4, param_dtype=x.dtype, name="heads")
        return linen.Dense(3, param_dtype=x.dtype, name="last")(heads(x, x).mean(1))


def difference(symmetries: Symmetries, expected: set[str]) -> str:
    texts = {str(generator) for generator in symmetries}
    return f"{len(symmetries)} found, {len(expected)} expected; missed {expected - texts}, false {texts - expected}"


def linen_oracle(module: linen.Module, shape: tuple[int, ...], precision: str) -> Any:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, *shape)), dtype=PRECISIONS[precision])
    apply, parameters = from_linen(module, module.init(jax.random.key(0), x))
    data = (x, np.zeros(8, dtype=np.int64))
    groups = ish.oracle(apply, data, parameters=parameters).groups
    divided = [replace(group, channel_groups=2) for group in groups if group.name == "Conv_1.kernel"]
    return ish.oracle(apply, data, parameters=parameters, groups=divided)


@pytest.mark.parametrize("precision", ["double", pytest.param("single", marks=pytest.mark.slow)])
def test_a_perceptron_of_plain_functions_has_one_for_each_hidden_unit(precision: str) -> None:
    parameters = jax.tree.map(lambda a: a.astype(PRECISIONS[precision]), random_parameters())
    x, y = random_data()
    oracle = ish.oracle(Network().apply, (x.astype(PRECISIONS[precision]), y), parameters=parameters)
    symmetries = find_symmetries(oracle)
    expected = {f"dense_0.bias[{i}], dense_0.kernel[:, {i}] up, dense_1.kernel[{i}] down" for i in range(5)} | {
        f"dense_1.bias[{i}], dense_1.kernel[:, {i}] up, dense_2.kernel[{i}] down" for i in range(3)
    }
    assert sorted(map(str, symmetries)) == sorted(expected), difference(symmetries, expected)


def test_a_perceptron_of_tanh_has_none() -> None:
    oracle = ish.oracle(Network(jnp.tanh).apply, random_data(), parameters=random_parameters())
    assert not find_symmetries(oracle), f"found {find_symmetries(oracle)}"


@pytest.mark.slow
def test_channels_of_convolutions_by_their_group() -> None:
    symmetries = find_symmetries(linen_oracle(Images(), (5, 5, 2), "single"))
    read = [(0, "0:3"), (1, "0:3"), (0, "3:6"), (1, "3:6")]
    expected = {
        f"Conv_0.bias[{i}], Conv_0.kernel[:, :, :, {i}] up, Conv_1.kernel[:, :, {column}, {outputs}] down"
        for i, (column, outputs) in enumerate(read)
    } | {
        f"Conv_1.bias[{i}], Conv_1.kernel[:, :, :, {i}] up, "
        f"{', '.join(f'Dense_0.kernel[{6 * position + i}]' for position in range(4))} down"
        for i in range(6)
    }
    assert sorted(map(str, symmetries)) == sorted(expected), difference(symmetries, expected)


@pytest.mark.slow
def test_heads_and_a_layer_norm() -> None:
    symmetries = find_symmetries(linen_oracle(Tokens(), (3, 5), "double"))
    width = [(head, i) for head in range(2) for i in range(2)]
    expected = {
        *(
            f"heads.key.kernel[:, {h}, {i}] up, heads.query.bias[{h}, {i}], heads.query.kernel[:, {h}, {i}] down"
            for h, i in width
        ),
        *(
            f"heads.out.kernel[{h}, {i}] up, heads.value.bias[{h}, {i}], heads.value.kernel[:, {h}, {i}] down"
            for h, i in width
        ),
        *(f"heads.out.bias[{i}], heads.out.kernel[:, :, {i}] up, last.kernel[{i}] down" for i in range(5)),
        *(
            f"heads.key.kernel[{i}], heads.query.kernel[{i}], heads.value.kernel[{i}] up, norm.bias[{i}], norm.scale[{i}] down"
            for i in range(5)
        ),
    }
    assert sorted(map(str, symmetries)) == sorted(expected), difference(symmetries, expected)
    assert symmetries.idle == 4, f"{symmetries.idle} idle, but the four biases of the keys are"
