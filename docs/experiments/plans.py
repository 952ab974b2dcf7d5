"""What was planned and what it took: a perceptron, a convolutional network and an encoder of four blocks, on PyTorch and JAX.

    python docs/experiments/plans.py [torch] [jax] [--examples 128]

``ish.plan`` before, and then the processor time of ``ish.measure``, divided by that of one gradient of the oracle, for normalized sharpness, the trace,
matrix-normalized sharpness and the Fisher-Rao norm together; arithmetic on the host, such as the solver's, is in both. JAX compiles on a first run,
which is not timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import encoder
import works

import invariant_sharpness as ish

METRICS = ["normalized_sharpness", "hessian_trace", "matrix_normalized_sharpness", "fisher_rao_norm"]
NETWORKS = {"perceptron": "A", "convolutional": "B", "encoder": "C"}


def oracle_of(framework: str, work: str, examples: int) -> Any:
    """The oracle of a network on some of its data."""
    if framework == "torch":
        network = encoder.torch_encoder() if work == "C" else works.torch_network(work)
        data = encoder.torch_batches() if work == "C" else works.torch_batches(work)
        return ish.oracle(network, data, max_examples=examples)
    apply, parameters = encoder.jax_encoder() if work == "C" else works.jax_network(work)
    data = encoder.batches() if work == "C" else works.batches_channels_last(work)
    return ish.oracle(apply, data, parameters=parameters, max_examples=examples)


def seconds(function: Callable[[], object], runs: int = 1) -> float:
    started = time.process_time()
    for _ in range(runs):
        function()
    return (time.process_time() - started) / runs


def row(framework: str, name: str, examples: int) -> str:
    oracle = oracle_of(framework, NETWORKS[name], examples)
    plan = ish.plan(oracle, METRICS)
    if framework == "jax":
        ish.measure(oracle, METRICS)
    gradient = seconds(lambda: oracle.gradient(oracle.parameters), 5)
    taken = seconds(lambda: ish.measure(oracle, METRICS))
    planned = 60 * (plan.minutes or float("nan")) / plan.seconds_per_gradient
    passes = taken / gradient
    return f"| {framework} | {name} | {planned:.0f} | {passes:.0f} | {passes / planned:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", default=["torch", "jax"])
    parser.add_argument("--examples", type=int, default=128)
    given = parser.parse_args()
    print("| framework | network | planned gradients | taken | factor |")
    print("| --- | --- | ---: | ---: | ---: |")
    for framework in given.frameworks:
        for name in NETWORKS:
            print(row(framework, name, given.examples), flush=True)


if __name__ == "__main__":
    main()
