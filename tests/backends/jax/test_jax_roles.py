"""Parameters with three axes or more get the axes of the operations in which they enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.protocol import ParameterGroup

jax.config.update("jax_enable_x64", True)
LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolved(x: Any, kernel: Any, layout: tuple[str, str, str] = LAYOUT, groups: int = 1) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=layout, feature_group_count=groups
    )


def experts(x: Any, stacked: Any) -> Any:
    return jnp.einsum(
        "kni,kio->nko", jnp.broadcast_to(x.reshape(len(x), 1, -1).swapaxes(0, 1), (3, len(x), 64)), stacked
    )


USES: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any], tuple[Any, ...]]] = {
    "a convolution": ((3, 3, 4, 6), convolved, ("convolution", (3,), (2,), 1)),
    "a grouped one": ((3, 3, 2, 6), lambda x, w: convolved(x, w, groups=2), ("convolution", (3,), (2,), 2)),
    "outputs first": (
        (6, 4, 3, 3),
        lambda x, w: convolved(x, w, ("NHWC", "OIHW", "NHWC")),
        ("convolution", (0,), (1,), 1),
    ),
    "turned over": ((6, 4, 3, 3), lambda x, w: convolved(x, w.transpose(2, 3, 1, 0)), ("convolution", (0,), (1,), 1)),
    "compiled inside": ((3, 3, 4, 6), jax.jit(convolved), ("convolution", (3,), (2,), 1)),
    "experts": ((3, 64, 5), experts, ("matrix", (0, 2), (1,), 3)),
}


@pytest.mark.parametrize("kind", USES)
@pytest.mark.parametrize("name", ["mine", "kernel"])
def test_axes_are_told_by_the_operation(kind: str, name: str) -> None:
    shape, layer, (role, outputs, inputs, channel_groups) = USES[kind]
    random = np.random.default_rng(0)
    x, y = random.normal(size=(10, 4, 4, 4)), random.integers(0, 3, 10)
    width = int(np.prod(layer(x, np.zeros(shape)).shape[1:]))
    parameters = {name: random.normal(size=shape), "last": random.normal(size=(width, 3))}
    oracle = ish.oracle(
        lambda p, x: jax.nn.relu(layer(x, p[name])).reshape(len(x), -1) @ p["last"], (x, y), parameters=parameters
    )
    (group,) = [group for group in oracle.groups if group.name == name]
    assert group == ParameterGroup(name, shape, role, outputs, inputs, channel_groups)


def test_what_the_user_says_prevails() -> None:
    given = ParameterGroup("mine", (3, 3, 4, 3), "convolution", (2,), (3,))
    x, y = np.ones((4, 3, 3, 4)), np.array([0, 1, 2, 0])
    oracle = ish.oracle(
        lambda p, x: convolved(x, p["mine"]).reshape(len(x), -1),
        (x, y),
        parameters={"mine": np.ones((3, 3, 4, 3))},
        groups=[given],
    )
    assert oracle.groups == (given,)
