"""The symmetries of ResNet-18 and GPT-2 as others wrote them, against those that follow from their layers."""

from __future__ import annotations

import runpy
from functools import cache
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries
from zoo import EXPERIMENTS

pytestmark = pytest.mark.slow

SCRIPT = EXPERIMENTS / "real_models.py"
LAYERS, WIDTH = 2, 64


@cache
def networks() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@cache
def found(name: str) -> Symmetries:
    if name == "ResNet-18":
        return ish.find_symmetries(ish.oracle(*networks()["resnet18"]()))
    problem = networks()["gpt2"](LAYERS, WIDTH, tied=name == "GPT-2")
    return ish.find_symmetries(ish.oracle(*problem, forward=networks()["next_bytes"]), max_unknowns=1000)


def of_resnet() -> set[str]:
    """Channels within each block, and those of the streams, which end where the next stage reads them."""
    stages = [f"resnet.encoder.stages.{stage}" for stage in range(4)]
    expected = set()
    for number, (stage, width) in enumerate(zip(stages, (64, 128, 256, 512), strict=True)):
        blocks = [f"{stage}.layers.{block}" for block in range(2)]
        source = f"{stage}.layers.0.shortcut" if number else "resnet.embedder.embedder"
        writers = [source, *(f"{block}.layer.1" for block in blocks)]
        readers = [f"{block}.layer.0.convolution" for block in (blocks if not number else blocks[1:])]
        last = ["classifier.1"]
        following = [
            f"{s}.layers.0.{part}.convolution"
            for s in stages[number + 1 : number + 2]
            for part in ("shortcut", "layer.0")
        ]
        for i in range(width):
            expected |= {
                moved(
                    [f"{block}.layer.0.normalization.{p}[{i}]" for p in ("weight", "bias")],
                    [f"{block}.layer.1.convolution.weight[:, {i}]"],
                )
                for block in blocks
            }
            up = [f"{writer}.normalization.{p}[{i}]" for writer in writers for p in ("weight", "bias")]
            expected.add(moved(up, [f"{reader}.weight[:, {i}]" for reader in [*readers, *(following or last)]]))
    return expected


def of_gpt2(*, tied: bool) -> set[str]:
    """Gains and queries, values and gains in each layer; nothing in the GELU, and nothing in the stream, which normalizations read."""
    expected = set()
    for layer in range(LAYERS):
        path = f"transformer.h.{layer}"
        attention, projection = f"{path}.attn.c_attn", f"{path}.attn.c_proj"
        for i in range(WIDTH):
            expected |= {
                moved([f"{path}.ln_1.weight[{i}]", f"{path}.ln_1.bias[{i}]"], [f"{attention}.weight[{i}]"]),
                moved(
                    [f"{attention}.weight[:, {i}]", f"{attention}.bias[{i}]"], [f"{attention}.weight[:, {WIDTH + i}]"]
                ),
                moved(
                    [f"{attention}.weight[:, {2 * WIDTH + i}]", f"{attention}.bias[{2 * WIDTH + i}]"],
                    [f"{projection}.weight[{i}]"],
                ),
                moved([f"{path}.ln_2.weight[{i}]", f"{path}.ln_2.bias[{i}]"], [f"{path}.mlp.c_fc.weight[{i}]"]),
            }
    if not tied:
        norm = [[f"transformer.ln_f.{p}[{i}]" for p in ("weight", "bias")] for i in range(WIDTH)]
        expected |= {moved(up, [f"lm_head.weight[:, {i}]"]) for i, up in enumerate(norm)}
    return expected


def moved(up: list[str], down: list[str]) -> str:
    """As it prints, but in alphabetical order."""
    return f"{sorted(up)} up, {sorted(down)} down"


def sorted_text(printed: str) -> str:
    up, down = printed.replace("[:, ", "[:,").removesuffix(" down").split(" up, ")
    return moved(*([entry.replace("[:,", "[:, ") for entry in side.split(", ")] for side in (up, down)))


EXPECTED = {"ResNet-18": of_resnet(), "GPT-2": of_gpt2(tied=True), "GPT-2 with a head of its own": of_gpt2(tied=False)}
every_network = pytest.mark.parametrize("name", EXPECTED)


@every_network
def test_those_that_follow_from_the_layers_are_found(name: str) -> None:
    texts = [sorted_text(str(generator)) for generator in found(name)]
    missed, false = EXPECTED[name] - set(texts), set(texts) - EXPECTED[name]
    assert len(texts) == len(EXPECTED[name]), f"{len(texts)} found, {len(EXPECTED[name])} expected"
    assert set(texts) == EXPECTED[name], f"missed {sorted(missed)[:3]}, false {sorted(false)[:3]}"


@every_network
def test_none_was_refused(name: str) -> None:
    assert found(name).refused == 0, f"{found(name).refused} solutions did not hold under finite rescalings"


def test_the_biases_of_keys_and_the_last_position_are_idle() -> None:
    """The last byte of a text predicts nothing that is looked at."""
    assert found("GPT-2").idle == LAYERS * WIDTH + 1, f"{found('GPT-2').idle} idle"
