"""Random vectors that are the same on every framework, device and layout.

They come from the raw bits of the counter-based generator Philox, keyed by (seed, stream), counted
by probe: nothing depends on batch size, on what was drawn before, or on a global random state.
A kernel is drawn in the order (outputs, inputs, kernel positions) and then turned into its own
layout, and weights and biases are counted separately, so that frameworks which store or order the
same layer differently receive the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from numbers import Integral
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup

Bits = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]

_COTANGENT_STREAM = 2**32
_OUTPUT_STREAM = 2**34
_PERMUTATION_STREAM = 2**35
_MIXING_STREAM = 2**36


class Draws(NamedTuple):
    """Which random signs are drawn for the rows of some outputs, the first of which is row ``start`` of the data."""

    numbers: range
    seed: int
    start: int


def signs(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Rademacher vector number ``index``: independent entries, each -1 or 1 with equal chance.

    ``E[u u^T] = I``, and ``Var(u^T H u) = 2 * sum_{i != j} H_ij^2``, the least of all such vectors.
    """
    return _draw(oracle, seed, index, _signs)


def uniform(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Vector number ``index`` of independent entries, uniform on [-1, 1)."""
    return _draw(oracle, seed, index, uniform_values)


def normals(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Vector number ``index`` of independent standard normal entries."""
    return _draw(oracle, seed, index, normal_values)


def cotangents(seed: int, shape: tuple[int, ...]) -> Values:
    """Numbers uniform on [-1, 1) for the outputs of a few examples, from a stream far from those of the parameters."""
    return uniform_values(seed, _COTANGENT_STREAM, 0, prod(shape)).reshape(shape)


def output_signs(seed: int, draw: int, start: int, rows: int, width: int) -> Values:
    """Random signs for ``rows`` rows of outputs, of which the first is row ``start`` of the data.

    They belong to the place of a row in the data, so that batches may be cut in any way.
    """
    blocks = -(-width // 256)  # the generator makes four words of 64 bits at a time
    generator = np.random.Philox(
        key=np.array([seed, _OUTPUT_STREAM], dtype=np.uint64),
        counter=np.array([start * blocks, 0, draw, 0], dtype=np.uint64),
    )
    words = generator.random_raw(4 * blocks * rows).reshape(rows, 4 * blocks)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=width, bitorder="little")
    return 2 * bits.astype(np.float64) - 1


def mixing_values(seed: int, index: int, count: int) -> Values:
    """Numbers uniform on [-1, 1) that mix the columns of a weight, whatever its layout; from a stream of their own."""
    return uniform_values(seed, _MIXING_STREAM, index, count)


def permutation(seed: int, count: int) -> npt.NDArray[np.intp]:
    """The numbers below ``count`` in random order."""
    return np.argsort(random_bits(seed, _PERMUTATION_STREAM, 0, count), kind="stable")


def uniform_values(seed: int, stream: int, index: int, count: int) -> Values:
    """``count`` independent numbers, uniform on [-1, 1): the upper 53 bits of each word."""
    words = random_bits(seed, stream, index, count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def normal_values(seed: int, stream: int, index: int, count: int) -> Values:
    """``count`` independent standard normal numbers: the quantile function at the upper 52 bits of each word and a half.

    One word for each number, so that fewer numbers are the beginning of more. The largest magnitude is 8.2.
    """
    words = random_bits(seed, stream, index, count)
    return ndtri(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def require_probes(probes: int, least: int) -> None:
    """Raise ``ValueError`` unless there are enough probes for an estimate and its error."""
    if not isinstance(probes, Integral):
        msg = f"probes={probes!r}, but a number of probes is an integer, at least {least}"
        raise ValueError(msg)
    if probes < least:
        msg = f"probes={probes}, but this estimate and its standard error need at least {least} probes"
        raise ValueError(msg)


def require_seed(seed: object) -> None:
    """Raise ``ValueError`` unless this is a seed."""
    if not (isinstance(seed, Integral) and 0 <= int(seed) < 2**63):
        msg = f"seed={seed!r}, but a seed is an integer from 0 to 2**63 - 1"
        raise ValueError(msg)


def random_bits(seed: int, stream: int, index: int, count: int) -> Bits:
    """``count`` words of 64 random bits: the Philox stream (seed, stream) at position ``index``."""
    require_seed(seed)
    generator = np.random.Philox(
        key=np.array([seed, stream], dtype=np.uint64), counter=np.array([0, 0, index, 0], dtype=np.uint64)
    )
    return generator.random_raw(count)


def _draw(
    oracle: CurvatureOracle, seed: int, index: int, draw: Callable[[int, int, int, int], Values]
) -> ParameterVector:
    streams = _streams(oracle.groups)
    arrays = {
        group.name: _to_layout(group, draw(seed, stream, index, group.size))
        for group, stream in zip(oracle.groups, streams, strict=True)
    }
    return oracle.from_numpy(arrays)


def _signs(seed: int, stream: int, index: int, size: int) -> Values:
    words = random_bits(seed, stream, index, -(-size // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=size, bitorder="little")
    return 2 * bits.astype(np.float64) - 1


def _streams(groups: Sequence[ParameterGroup]) -> list[int]:
    """Even numbers for the weights in their order, odd ones for all other groups in theirs."""
    counters = {True: 0, False: 1}
    streams = []
    for group in groups:
        streams.append(counters[group.is_weight])
        counters[group.is_weight] += 2
    return streams


def _to_layout(group: ParameterGroup, values: Values) -> Values:
    """Values drawn as (outputs, inputs, kernel positions), in the layout of the parameter."""
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    canonical = values.reshape([group.shape[axis] for axis in order])
    return np.transpose(canonical, np.argsort(order)).copy()
