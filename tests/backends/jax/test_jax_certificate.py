"""Which parameters of Flax models are certified: those after which nothing bends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from invariant_sharpness_jax import from_linen, from_nnx

RANDOM = np.random.default_rng(0)
LABELS = np.arange(6) % 3


def certified(adapted: Any, x: Any) -> tuple[frozenset[str], str]:
    """The groups, and what to say if they are the wrong ones."""
    apply, parameters = adapted
    oracle = ish.oracle(apply, (x, LABELS), parameters=parameters)
    defects = curvature_defects(oracle)
    return exact_groups(oracle, defects), f"defects {defects}"


def test_below_a_gelu_nothing_is_certified() -> None:
    """Convolution, ReLU, convolution, GELU, dense, ReLU, dense: the GELU bends what the convolutions do."""
    options: dict[str, Any] = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    convolutions = nnx.Conv(2, 3, (3, 3), **options), nnx.relu, nnx.Conv(3, 4, (3, 3), **options), nnx.gelu
    dense = nnx.Linear(64, 5, **options), nnx.relu, nnx.Linear(5, 3, **options)
    module = nnx.Sequential(*convolutions, lambda x: x.reshape(len(x), -1), *dense)
    found, message = certified(from_nnx(module), RANDOM.normal(size=(6, 4, 4, 2)))
    assert found == {"layers.5.kernel", "layers.5.bias", "layers.7.kernel", "layers.7.bias"}, message


class Attentive(linen.Module):
    """One block of a transformer without the ReLUs."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.LayerNorm(param_dtype=jnp.float64, name="norm")(x)
        attention = linen.MultiHeadDotProductAttention(
            num_heads=2, use_bias=False, param_dtype=jnp.float64, name="attention"
        )
        return linen.Dense(3, param_dtype=jnp.float64, name="head")(attention(x).mean(axis=1))


@pytest.mark.slow
def test_of_attention_only_values_and_what_follows_are_certified() -> None:
    """Outputs are affine in the values, which the softmax of queries and keys weights."""
    x = RANDOM.normal(size=(6, 5, 4))
    module = Attentive()
    found, message = certified(from_linen(module, module.init(jax.random.key(0), x)), x)
    assert found == {"attention.value.kernel", "attention.out.kernel", "head.kernel", "head.bias"}, message
