"""Random signs in array operations: the bits of NumPy's generator, in every namespace."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy
import array_api_compat.torch
import array_api_strict
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness import ParameterGroup, ParameterVector, philox, prng
from invariant_sharpness.protocol import placement

LARGEST = 2**63 - 1
STREAMS = [0, 2, 1, 2**32 + 5, 2**44, 3]
SIZES = [1, 257, 0, 100_003, 256, 8]
"""Odd ones, whole blocks of 256, and none at all."""


def without_long_integers() -> Any:
    """NumPy, as a namespace that has no integers of 64 bits."""
    namespace = SimpleNamespace(**vars(array_api_compat.numpy))
    namespace.__array_namespace_info__ = lambda: SimpleNamespace(dtypes=lambda **_: {"int32": np.int32})
    return namespace


NAMESPACES = [
    pytest.param(array_api_compat.numpy, id="NumPy"),
    pytest.param(without_long_integers(), id="NumPy without 64 bits"),
    pytest.param(array_api_strict, id="strict"),
    pytest.param(array_api_compat.torch, id="PyTorch"),
    pytest.param(jnp, id="JAX", marks=pytest.mark.slow),  # which compiles every operation for every shape
]


def bits_of_numpy(seed: int, stream: int, index: int, size: int) -> Any:
    """The bits of the words in order, the lowest of each first, as NumPy's own generator draws them."""
    generator = np.random.Philox(key=np.array([seed, stream], np.uint64), counter=np.array([0, 0, index, 0], np.uint64))
    words = generator.random_raw(-(-size // 64))
    return np.array([2 * (int(word) >> place & 1) - 1 for word in words for place in range(64)][:size])


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(("seed", "index"), [(0, 0), (LARGEST, 2**40 + 3)])
def test_signs_are_the_bits_of_numpys_generator(xp: Any, seed: int, index: int) -> None:
    for values, stream, size in zip(philox.signs(xp, seed, STREAMS, index, SIZES), STREAMS, SIZES, strict=True):
        expected = bits_of_numpy(seed, stream, index, size)
        assert np.array_equal(np.asarray(values), expected), f"{size} signs of stream {stream} are {values}"


def test_jax_in_32_bits_has_the_bits_of_numpys_generator() -> None:
    (values,) = philox.signs(jnp, 7, [2**44 + 1], 5, [257])
    assert np.array_equal(np.asarray(values), bits_of_numpy(7, 2**44 + 1, 5, 257)), f"{values}"


@given(seed=st.integers(0, LARGEST), stream=st.integers(0, 2**64 - 1), index=st.integers(0, 2**64 - 1))
def test_any_key_and_counter_give_the_bits_of_numpys_generator(seed: int, stream: int, index: int) -> None:
    for xp in (array_api_compat.numpy, without_long_integers(), array_api_compat.torch):
        (values,) = philox.signs(xp, seed, [stream], index, [321])
        assert np.array_equal(np.asarray(values), bits_of_numpy(seed, stream, index, 321)), f"{values}"


GROUPS = (
    ParameterGroup("dense", (30, 40), "matrix", output_axes=(0,), input_axes=(1,)),
    ParameterGroup("dense.bias", (30,), "bias", output_axes=(0,)),
    ParameterGroup("kernel", (2, 5, 3, 4), "convolution", output_axes=(3,), input_axes=(2,)),
    ParameterGroup("transposed", (7, 11), "matrix", output_axes=(1,), input_axes=(0,)),
    ParameterGroup("scalar", ()),
)


@dataclass
class Placed:
    """Of an oracle, what random vectors are drawn from: parameters that lie on a device of torch."""

    device: str
    xp: Any = array_api_compat.torch
    groups: tuple[ParameterGroup, ...] = GROUPS

    @property
    def parameters(self) -> ParameterVector:
        dtypes = {"dense.bias": torch.float64}
        arrays = {g.name: torch.zeros(g.shape, dtype=dtypes.get(g.name), device=self.device) for g in GROUPS}
        return ParameterVector(self.xp, arrays)

    def from_numpy(self, arrays: Any) -> ParameterVector:
        assert self.device == "cpu", "a vector was drawn on the host and copied to the device"
        like = self.parameters
        return ParameterVector(self.xp, {n: torch.asarray(arrays[n]).to(like[n].dtype) for n in like.arrays})


def test_signs_are_drawn_where_the_parameters_are(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prng.signs(Placed("cpu"), 3, 4)
    monkeypatch.setattr(placement, "_takes_new_arrays", lambda _: True)
    drawn = prng.signs(Placed("cpu"), 3, 4)
    assert list(drawn.arrays) == list(expected.arrays), f"the groups are {list(drawn.arrays)}"
    for name, array in expected.arrays.items():
        assert torch.equal(drawn[name], array), f"{name} drawn on the device differs from the host's"
        assert (drawn[name].dtype, drawn[name].stride()) == (array.dtype, array.stride()), f"{name} is {drawn[name]}"


def test_nothing_is_copied_to_a_device() -> None:
    """The meta device has shapes and types, and refuses numbers from the host."""
    drawn = prng.signs(Placed("meta"), 0, 0)
    for name, array in Placed("meta").parameters.arrays.items():
        found = drawn[name]
        assert found.device.type == "meta", f"{name} is on {found.device}"
        assert (found.shape, found.dtype) == (array.shape, array.dtype), f"{name} has {found.shape} of {found.dtype}"


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_named_on_a_device_too(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed={seed}"):
        prng.signs(Placed("meta"), seed, 0)
