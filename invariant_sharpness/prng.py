"""Random vectors that are the same on every framework, device and layout.

They come from the raw bits of the counter-based generator Philox, keyed by (seed, stream), counted
by probe: nothing depends on batch size, on what was drawn before, or on a global random state.
A kernel is drawn in the order (outputs, inputs, kernel positions) and then turned into its own
layout, and weights and biases are counted separately, so that frameworks which store or order the
same layer differently receive the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import IntEnum
from math import prod
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from scipy.special import ndtri

from invariant_sharpness import philox
from invariant_sharpness.arguments import require_seed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.groups import Computed
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.protocol.placement import on_accelerators

Bits = npt.NDArray[np.uint64]
Values = npt.NDArray[np.float64]


class Stream(IntEnum):
    """The number of every stream but those of the parameter groups, which take 0, 1, 2 and so on in their order.

    What is drawn from one stream has nothing to do with what is drawn from another with the same seed. A number that stands here is
    never changed, and never given to anything else: it decides which numbers are drawn.
    """

    COTANGENTS = 2**32
    DEMONSTRATION_SPLIT = 2**32 + 1
    DEMONSTRATION_LABELS = 2**32 + 2
    DEMONSTRATION_FACTORS = 2**32 + 3
    CHECKED_ENTRIES = 2**33
    OUTPUT_SIGNS = 2**34
    PERMUTATION = 2**35
    COLUMN_MIXING = 2**36
    SYMMETRY_EQUATIONS = 2**37
    SYMMETRY_VERIFICATION = 2**38
    GENERATOR_FACTORS = 2**39
    HEAD_MIXING = 2**40
    UNIT_FACTORS = 2**41
    SYMMETRY_ITERATIONS = 2**42
    LAYER_SIGNS = 2**43
    NODE_SIGNS = 2**44
    BOOTSTRAP = 2**45


class Draws(NamedTuple):
    """Which random signs are drawn for the outputs of some examples, the first of which is example ``start`` of the data."""

    numbers: range
    seed: int
    start: int


def signs(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Draw Rademacher vector number ``index``: independent entries, each -1 or 1 with equal chance.

    ``E[u u^T] = I``, and ``Var(u^T H u) = 2 * sum_{i != j} H_ij^2``, the least of all such vectors. Where the parameters lie on an accelerator
    it is drawn there, with the same bits.
    """
    there = on_accelerators(oracle)
    return _draw(oracle, seed, index, _signs) if there is None else _signs_there(oracle, there, seed, index)


def uniform(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Draw vector number ``index`` of independent entries, uniform on [-1, 1)."""
    return _draw(oracle, seed, index, uniform_values)


def normals(oracle: CurvatureOracle, seed: int, index: int) -> ParameterVector:
    """Draw vector number ``index`` of independent standard normal entries."""
    return _draw(oracle, seed, index, normal_values)


def cotangents(seed: int, shape: tuple[int, ...], start: int = 0) -> Values:
    """Draw numbers uniform on [-1, 1) for the outputs of some examples, the first of which has the number ``start``.

    They belong to the number of an example, so that batches may be cut in any way.
    """
    blocks = -(-prod(shape[1:]) // 4)  # the generator makes four words of 64 bits at a time
    words = random_bits(seed, Stream.COTANGENTS, 0, 4 * blocks * shape[0], start * blocks)
    return _uniform(words.reshape(shape[0], -1)[:, : prod(shape[1:])]).reshape(shape)


def output_signs(seed: int, draw: int, start: int, rows: int, width: int) -> Values:
    """Draw random signs for the ``width`` outputs of ``rows`` examples, the first of which is example ``start`` of the data.

    They belong to the position of an example in the data, so that batches may be cut in any way.
    """
    return 2 * _bits(seed, Stream.OUTPUT_SIGNS, draw, 0, start, rows, width).astype(np.float64) - 1


def layer_signs(seed: int, draw: int, layer: int, start: int, rows: int, width: int) -> npt.NDArray[np.int8]:
    """Draw random signs for the ``width`` outputs that a layer has for each of ``rows`` examples, the first of which is example ``start``.

    They belong to the position of an example in the data, so that batches may be cut in any way.
    """
    bits = _bits(seed, Stream.LAYER_SIGNS, draw, layer, start, rows, width).view(np.int8)
    return 2 * bits - np.int8(1)


def node_signs(seed: int, draw: int, node: int, start: int, rows: int, width: int) -> npt.NDArray[np.int8]:
    """Draw random signs for the ``width`` entries that an operation takes of each of ``rows`` examples, the first of which is example ``start``."""
    bits = _bits(seed, Stream.NODE_SIGNS, draw, node, start, rows, width).view(np.int8)
    return 2 * bits - np.int8(1)


def layer_number(groups: Sequence[ParameterGroup], owned: Collection[str]) -> int:
    """Return the number of the layer that owns these groups: that of its weight, or else of the first of its other groups.

    It is the same in frameworks that order weights and biases differently.
    """
    streams = {group.name: stream for group, stream in zip(groups, _streams(groups), strict=True)}
    own = [group for group in groups if group.name in owned]
    weights = [group for group in own if group.is_weight]
    return min(streams[group.name] for group in weights or own)


def _bits(seed: int, stream: Stream, draw: int, layer: int, start: int, rows: int, width: int) -> npt.NDArray[np.uint8]:
    """Draw bits, one in each byte, of shape (rows, width)."""
    blocks = -(-width // 256)  # the generator makes four words of 64 bits at a time
    generator = np.random.Philox(
        key=np.array([seed, stream], dtype=np.uint64),
        counter=np.array([start * blocks, 0, draw, layer], dtype=np.uint64),
    )
    words = generator.random_raw(4 * blocks * rows).reshape(rows, 4 * blocks)
    return np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, count=width, bitorder="little")


def mixing_values(seed: int, index: int, count: int) -> Values:
    """Draw numbers uniform on [-1, 1) that mix the columns of a weight, whatever its layout."""
    return uniform_values(seed, Stream.COLUMN_MIXING, index, count)


def permutation(seed: int, count: int) -> npt.NDArray[np.intp]:
    """Draw the numbers below ``count`` in random order."""
    return np.argsort(random_bits(seed, Stream.PERMUTATION, 0, count), kind="stable")


def uniform_values(seed: int, stream: int, index: int, count: int) -> Values:
    """Draw ``count`` independent numbers, uniform on [-1, 1): the upper 53 bits of each word."""
    return _uniform(random_bits(seed, stream, index, count))


def normal_values(seed: int, stream: int, index: int, count: int) -> Values:
    """Draw ``count`` independent standard normal numbers: the quantile function at the upper 52 bits of each word and a half.

    One word for each number, so that fewer numbers are the beginning of more. The largest magnitude is 8.2.
    """
    words = random_bits(seed, stream, index, count)
    return ndtri(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def require_probes(probes: int, least: int) -> None:
    """Raise :class:`ArgumentError` unless there are enough probes for an estimate and its error."""
    if not isinstance(probes, Integral):
        msg = f"probes={probes!r}, but a number of probes is an integer, at least {least}"
        raise ArgumentError(msg)
    if probes < least:
        msg = f"probes={probes}, but this estimate and its standard error need at least {least} probes"
        raise ArgumentError(msg)


def random_bits(seed: int, stream: int, index: int, count: int, start: int = 0) -> Bits:
    """Draw ``count`` words of 64 random bits: the Philox stream (seed, stream) at position ``index``, after ``start`` blocks of four."""
    require_seed(seed)
    generator = np.random.Philox(
        key=np.array([seed, stream], dtype=np.uint64), counter=np.array([start, 0, index, 0], dtype=np.uint64)
    )
    return generator.random_raw(count)


def _uniform(words: Bits) -> Values:
    """Turn the upper 53 bits of each word into a number on [-1, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def _draw(
    oracle: CurvatureOracle, seed: int, index: int, draw: Callable[[int, int, int, int], Values]
) -> ParameterVector:
    streams = {group.name: stream for group, stream in zip(oracle.groups, _streams(oracle.groups), strict=True)}
    groups = {group.name: group for group in oracle.groups}

    def drawn(name: str) -> Values:
        return _to_layout(np, groups[name], draw(seed, streams[name], index, groups[name].size))

    return oracle.from_numpy(Computed(groups, drawn))


def _signs_there(oracle: CurvatureOracle, parameters: ParameterVector, seed: int, index: int) -> ParameterVector:
    require_seed(seed)
    groups, streams = (
        {g.name: g for g in oracle.groups},
        dict(zip(parameters.arrays, _streams(oracle.groups), strict=True)),
    )
    drawn: dict[str, Any] = {}
    for device in dict.fromkeys(array.device for array in parameters.arrays.values()):
        names = [name for name, array in parameters.arrays.items() if array.device == device]
        xp = array_namespace(parameters[names[0]])
        flat = philox.signs(xp, seed, [streams[n] for n in names], index, [groups[n].size for n in names], device)
        for name, values in zip(names, flat, strict=True):
            drawn[name] = _to_layout(xp, groups[name], xp.astype(values, parameters[name].dtype))
    return ParameterVector(oracle.xp, {name: drawn[name] for name in parameters.arrays})


def _signs(seed: int, stream: int, index: int, size: int) -> Values:
    words = random_bits(seed, stream, index, -(-size // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=size, bitorder="little")
    return 2 * bits.astype(np.float64) - 1


def _streams(groups: Sequence[ParameterGroup]) -> list[int]:
    """Give even numbers to the weights in their order, and odd ones to all other groups in theirs."""
    counters = {True: 0, False: 1}
    streams = []
    for group in groups:
        streams.append(counters[group.is_weight])
        counters[group.is_weight] += 2
    return streams


def _to_layout(xp: Any, group: ParameterGroup, values: Any) -> Any:
    """Bring values drawn as (outputs, inputs, kernel positions) into the layout of the parameter, in C order."""
    order = (*group.output_axes, *group.input_axes, *group.kernel_axes)
    canonical = xp.reshape(values, tuple(group.shape[axis] for axis in order))
    moved = xp.permute_dims(canonical, tuple(np.argsort(order).tolist()))
    return xp.reshape(xp.reshape(moved, (-1,)), group.shape)
