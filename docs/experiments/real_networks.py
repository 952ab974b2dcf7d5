"""What it takes to measure networks of other people, and which of their weights are certified exact.

    python docs/experiments/real_networks.py
    python docs/experiments/real_networks.py "tiny ViT" --probes 64 256 1024 4096 8192

The architectures are those of the ``transformers`` package, with random weights: nothing is downloaded. The images are
scikit-learn's digits, enlarged to 32 x 32; the texts are the bytes of this repository's license. Everything is in single
precision. Each measurement has a process of its own, whose peak is the memory of its row.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

import invariant_sharpness as ish

LICENSE = Path(__file__).parents[2] / "LICENSE"
VOCABULARY = 256

Problem = tuple[nn.Module, Any]
"""A model in eval mode, and data."""


def digits(start: int, stop: int, *, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the digits, standardized, as images of 32 x 32, and their labels."""
    images = torch.as_tensor(load_digits().images, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    enlarged = nn.functional.interpolate(images[start:stop, None], size=(32, 32), mode="bilinear")
    return enlarged.expand(-1, channels, -1, -1), torch.as_tensor(load_digits().target[start:stop])


def texts(number: int, length: int) -> dict[str, torch.Tensor]:
    """The first bytes of the license, cut into texts of equal length, as a batch of a language model."""
    tokens = torch.tensor(list(LICENSE.read_bytes()[: number * length])).reshape(number, length)
    return {"input_ids": tokens, "labels": tokens}


def resnet18(examples: int = 8, activation: str = "relu") -> Problem:
    """The 18-layer residual network, with the statistics of some hundred images in its batch norms."""
    torch.manual_seed(0)
    configuration = ResNetConfig(
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], hidden_act=activation, num_labels=10
    )
    model = ResNetForImageClassification(configuration).train()
    with torch.no_grad():
        for start in range(1000, 1320, 64):
            model(digits(start, start + 64, channels=3)[0])
    return model.eval(), digits(0, examples, channels=3)


def vision_transformer(layers: int = 12, width: int = 192, heads: int = 3, patch: int = 4) -> Problem:
    """A vision transformer; by default of the size that is known as ViT-Ti."""
    torch.manual_seed(0)
    configuration = ViTConfig(
        image_size=32,
        patch_size=patch,
        num_channels=1,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_labels=10,
    )
    return ViTForImageClassification(configuration).eval(), digits(0, 16, channels=1)


def gpt2(layers: int = 4, width: int = 128, *, tied: bool = True) -> Problem:
    """A language model that reads bytes."""
    torch.manual_seed(0)
    configuration = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=tied,
    )
    return GPT2LMHeadModel(configuration).eval(), texts(8, 64)


def next_bytes(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels, shifted by one: each byte is predicted from those before it."""
    return model(input_ids=batch["input_ids"]).logits[:, :-1], batch["labels"][:, 1:]


@dataclass(frozen=True)
class Network:
    """A row of the table: what is measured, on what, with which options, and what is taken for exact."""

    build: Callable[[], Problem]
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    known: ish.HessianDiagonal | None = None


NETWORKS = {
    "ResNet-18": Network(resnet18, "8 images"),
    "ResNet-18, all sampled": Network(resnet18, "8 images", known=ish.HessianDiagonal({})),
    "ResNet-18 with GELU": Network(lambda: resnet18(activation="gelu"), "8 images"),
    "ViT-Ti": Network(vision_transformer, "16 images"),
    "GPT-2 of 4 layers": Network(gpt2, "8 texts of 64 bytes", {"forward": next_bytes}),
    "tiny ViT": Network(lambda: vision_transformer(1, 16, 2, 16), "16 images"),
}
"""All but the last, whose Hessian is small enough to be computed column by column, are measured by default."""

COLUMNS = (
    *("network", "parameters", "data", "probes", "weights exact, others sampled"),
    *("normalized_sharpness", "matrix_normalized_sharpness", "normalized_sharpness of Gauss-Newton"),
    *("seconds", "gradients", "peak memory, MB"),
)


def row(name: str, probes: int) -> list[str]:
    """Measure in this process. Time and memory are those of normalized sharpness."""
    network = NETWORKS[name]
    oracle = ish.oracle(*network.build(), **network.options)
    gradient = min(seconds(lambda: oracle.gradient(oracle.parameters)) for _ in range(3))
    weights = frozenset(group.name for group in oracle.groups if group.is_weight)
    started = time.perf_counter()
    diagonal = ish.hessian_diagonal(oracle, parameters=weights, probes=probes, diagonal=network.known)
    normalized = ish.normalized_sharpness(oracle, diagonal=diagonal)
    elapsed, memory = time.perf_counter() - started, peak_memory()
    by_layer = ish.matrix_normalized_sharpness(oracle, diagonal=diagonal)
    gauss_newton = ish.normalized_sharpness(ish.GaussNewton(oracle), probes=probes)
    return [
        *(name, f"{sum(group.size for group in oracle.groups):,}", network.data, str(probes)),
        what_is_exact(diagonal),
        *(f"{estimate.value:.6g} ({estimate.error_text()})" for estimate in (normalized, by_layer, gauss_newton)),
        *(f"{elapsed:.1f}", f"{elapsed / gradient:.0f}", f"{memory:.0f}"),
    ]


def what_is_exact(diagonal: ish.HessianDiagonal) -> str:
    """How many groups are exact, and why the others are not."""
    sampled = [name for name, group in diagonal.groups.items() if group.method == "probes"]
    counted = f"{len(diagonal.groups) - len(sampled)} of {len(diagonal.groups)}"
    if not sampled:
        return counted
    if not diagonal.defects:
        return f"{counted}: by choice"
    defects = [diagonal.defects[name] for name in sampled]
    return f"{counted}: not affine, defects from {min(defects):.1g} to {max(defects):.1g}"


def seconds(function: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def peak_memory() -> float:
    """Of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def in_own_process(name: str, probes: int) -> str:
    """The row, as a line of Markdown."""
    command = [sys.executable, __file__, name, "--probes", str(probes), "--here"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS)[:-1], help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--probes", type=int, nargs="+", default=[64])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(line(row(arguments.names[0], arguments.probes[0])))
        return
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    for name in arguments.names:
        for probes in arguments.probes:
            print(in_own_process(name, probes), flush=True)


if __name__ == "__main__":
    main()
