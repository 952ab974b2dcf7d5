"""The symmetries of a vision transformer of 12 layers, written down from its layers, under the finite rescalings that every found one has to pass."""

from __future__ import annotations

import runpy
from functools import cache
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Generator
from invariant_sharpness.symmetries.scaling_variables import ScalingVariables
from invariant_sharpness.symmetries.search.points import EXAMPLES, RandomPoints, spread_examples
from invariant_sharpness.symmetries.search.verification import Verification
from zoo import EXPERIMENTS

pytestmark = pytest.mark.slow

LAYERS, WIDTH = 12, 192
PARTS = ("layernorm_before", "layernorm_after", *(f"attention.{part}_proj" for part in "qkvo"), "mlp.fc1", "mlp.fc2")


@cache
def oracle() -> Any:
    return ish.oracle(*runpy.run_path(str(EXPERIMENTS / "real_models.py"))["vision_transformer"](LAYERS, WIDTH))


@cache
def variables() -> ScalingVariables:
    return ScalingVariables(oracle().groups)


def axis(parameter: str, number: int = 0) -> range:
    """The variables of the rows of a parameter, or, with number 1, of its columns."""
    own = [k for k, axis in enumerate(variables().axes) if axis.parameter.name == parameter]
    return range(variables().starts[own[number]], variables().starts[own[number] + 1])


def rows(layer: str) -> list[range]:
    return [axis(f"{layer}.weight"), axis(f"{layer}.bias")]


def columns(layer: str) -> list[range]:
    return [axis(f"{layer}.weight", 1)]


def of_units(up: list[range], down: list[range]) -> list[Generator]:
    return [Generator(variables(), {a[i]: 1.0 for a in up} | {a[i]: -1.0 for a in down}) for i in range(WIDTH)]


def of_layer(path: str) -> list[Generator]:
    """Gains against their readers, queries against keys, values against projections."""
    before, after, q, k, v, o, first, _ = (f"{path}.{part}" for part in PARTS)
    return [
        *of_units(rows(before), [*columns(q), *columns(k), *columns(v)]),
        *of_units(rows(q), rows(k)),
        *of_units(rows(v), columns(o)),
        *of_units(rows(after), columns(first)),
    ]


def of_stream() -> Generator:
    """All that is written to the stream, which normalizations alone read."""
    embeddings = [f"vit.embeddings.{name}" for name in ("cls_token", "position_embeddings")]
    writers = ["vit.embeddings.patch_embeddings.projection"]
    writers += [f"vit.layers.{k}.{part}" for k in range(LAYERS) for part in ("attention.o_proj", "mlp.fc2")]
    written = [*map(axis, embeddings), *(own for writer in writers for own in rows(writer))]
    return Generator(variables(), {variable: 1.0 for own in written for variable in own})


def test_those_of_its_units_and_the_scale_of_its_stream_hold() -> None:
    by_layer = [generator for k in range(LAYERS) for generator in of_layer(f"vit.layers.{k}")]
    generators = [*by_layer, *of_units(rows("vit.layernorm"), columns("classifier")), of_stream()]
    verification = Verification(oracle(), RandomPoints(spread_examples(oracle(), EXAMPLES), 0))
    held = verification.verified(generators)
    assert len(held) == len(generators) == LAYERS * 4 * WIDTH + WIDTH + 1, f"{len(held)} of {len(generators)} hold"
    assert verification.largest_change < verification.tolerance / 2, f"changes by {verification.largest_change:.1e}"
