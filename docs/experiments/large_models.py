"""What measurements of large models cost: value, interval, gradients and peak memory, row by row.

    python docs/experiments/large_models.py gpt2 normalized_sharpness
    python docs/experiments/large_models.py vit trace --dtype bfloat16
    python docs/experiments/large_models.py resnet affine_test gauss_newton --layers 2

Random weights from the published configurations: GPT-2 of 124,439,808 parameters on 4 x 128 tokens, ViT-B/16 and ResNet-50 with 1000 classes on 8 images. One thread.
A gradient is a plain loop's, forward and backward over the same data in one batch, in processor time: the mean of one before the row and one after it, each the faster of two,
as clocks drift in the minutes between. ``--layers`` makes a smaller model of the same kind. The peak is that of the process, and counts the model, the frameworks and everything else.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import affine_test
from invariant_sharpness.runtime.progress import listening

IMAGES, TEXTS, TOKENS = 8, 4, 128
LAST_PRINTED = [0.0]


class Problem(NamedTuple):
    """A model with its data and loss."""

    model: nn.Module
    batch: dict[str, torch.Tensor]
    loss: str


def gpt2(layers: int) -> Problem:
    """GPT-2 without dropout, and random tokens."""
    quiet = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = transformers.GPT2Config(n_layer=layers or 12, attn_implementation="eager", **quiet)
    tokens = torch.randint(0, config.vocab_size, (TEXTS, TOKENS))
    batch = {"input_ids": tokens, "labels": tokens}
    return Problem(transformers.GPT2LMHeadModel(config), batch, "next_token_cross_entropy")


def vit(layers: int) -> Problem:
    """ViT-B/16 with its classifier, and random images."""
    quiet = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    config = transformers.ViTConfig(
        num_hidden_layers=layers or 12, num_labels=1000, attn_implementation="eager", **quiet
    )
    return Problem(transformers.ViTForImageClassification(config), _images(), "cross_entropy")


def resnet(layers: int) -> Problem:
    """ResNet-50, and random images."""
    depths = [layers] * 4 if layers else [3, 4, 6, 3]
    config = transformers.ResNetConfig(depths=depths, num_labels=1000)
    return Problem(transformers.ResNetForImageClassification(config), _images(), "cross_entropy")


def _images() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(IMAGES, 3, 224, 224), "labels": torch.randint(0, 1000, (IMAGES,))}


MODELS: dict[str, Callable[[int], Problem]] = {"gpt2": gpt2, "vit": vit, "resnet": resnet}

ROWS: dict[str, Callable[[Any], Any]] = {
    "affine_test": lambda oracle: f"{sum(np.isinf(list(affine_test(oracle).defects.values())))} groups curved by form",
    "product": lambda oracle: oracle.hessian_vector_product(oracle.parameters, oracle.parameters).norm(),
    "normalized_sharpness": ish.normalized_sharpness,
    "trace": lambda oracle: ish.hessian_trace(oracle, budget=40),
    "spectral_norm": lambda oracle: ish.hessian_spectral_norm(oracle, tolerance=1e-3),
    "gauss_newton": lambda oracle: ish.normalized_sharpness(ish.GaussNewton(oracle), budget=16),
    "losses": lambda oracle: ish.average_adaptive_sharpness(oracle, probes=4),
    "layer scales": lambda oracle: f"{len(oracle.layer_units(oracle.parameters))} groups of layers",
    "first sample": lambda oracle: _sample(oracle),
    "one sample": lambda oracle: _sample(oracle),
    "one draw at every layer": lambda oracle: _draw(oracle),
    "one probe of the residual part": lambda oracle: _probe(oracle),
    "find_symmetries": lambda oracle: _symmetries(oracle),
}


def _symmetries(oracle: Any) -> str:
    found = ish.find_symmetries(oracle, max_unknowns=100)
    return f"{len(found)} symmetries, {found.refused} refused"


def _sample(oracle: Any) -> float:
    """Square one random combination of the outputs, in all groups; the first one tests the rules of the layers."""
    names = frozenset(group.name for group in oracle.groups)
    return oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, range(1), 0).norm()


def _draw(oracle: Any) -> float:
    """Draw once at each layer; the scales of the units are in it."""
    return oracle.sampled_residual_diagonal(
        oracle.parameters, oracle.layer_units(oracle.parameters), range(1), 0
    ).norm()


def _probe(oracle: Any) -> float:
    """Multiply with the residual part of the largest group: of GPT-2 that is the embedding, which belongs to no layer."""
    largest = frozenset([max(oracle.groups, key=lambda group: group.size).name])
    return oracle.residual_vector_products(oracle.parameters, [oracle.parameters], largest)[0].norm()


def gradient(problem: Problem) -> float:
    """Return the processor time of a plain gradient."""

    def once() -> float:
        start = time.process_time()
        problem.model(**problem.batch).loss.backward()
        problem.model.zero_grad(set_to_none=True)
        return time.process_time() - start

    return min(once(), once())


def freeze_all_but(pattern: str, model: nn.Module) -> None:
    """Have the parameters whose names match trained, and measured, and no others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(fnmatch(name, pattern))


def show(label: str, done: int, total: int, _gradients: float, /) -> None:
    """Print the progress, once in some seconds."""
    if time.monotonic() > LAST_PRINTED[0] + 5 or label.startswith("plan"):
        LAST_PRINTED[0] = time.monotonic()
        print(f"    {time.process_time():7.0f} s  {label}: {done} of {total}", flush=True)


def main() -> None:
    """Measure one row of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("rows", choices=ROWS, nargs="+", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--layers", type=int, default=0, help="layers, or blocks of each stage, of a smaller model")
    parser.add_argument(
        "--only", default="*", help="pattern of the parameters that are measured; all others are frozen"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    problem = MODELS[arguments.model](arguments.layers)
    problem.model.eval().to(getattr(torch, arguments.dtype))
    if "pixel_values" in problem.batch:
        problem.batch["pixel_values"] = problem.batch["pixel_values"].to(getattr(torch, arguments.dtype))
    unit = gradient(problem)
    print(f"    a gradient takes {unit:.2f} s", flush=True)
    freeze_all_but(arguments.only, problem.model)
    name = f"{arguments.model} {arguments.dtype}"
    with listening(show):
        start = time.process_time()
        oracle = ish.oracle(problem.model, [problem.batch], problem.loss)
        parameters = sum(group.size for group in oracle.groups)
        print_row(name, "oracle", f"{parameters:,} parameters", (time.process_time() - start) / unit)
        for row in arguments.rows:
            start = time.process_time()
            found, before = ROWS[row](oracle), unit
            seconds = time.process_time() - start
            freeze_all_but("*", problem.model)
            unit = gradient(problem)
            freeze_all_but(arguments.only, problem.model)
            print_row(name, row, found, 2 * seconds / (before + unit))


def print_row(name: str, row: str, found: Any, gradients: float) -> None:
    """Print a line of the table; the peak is that of all rows so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    value, interval, notes = found, "-", ""
    if isinstance(found, ish.Estimate):
        value, notes = f"{found.value:.6g}", "; ".join((found.method, *found.notes))
        interval = "{:.4g} to {:.4g}".format(*found.interval())
    print(f"| {name} | {row} | {value} | {interval} | {gradients:.1f} | {peak:.1f} GiB | {notes} |", flush=True)


if __name__ == "__main__":
    main()
