"""What it takes to build an oracle in Keras, on its three engines.

    python docs/experiments/keras_building.py [tensorflow] [jax] [torch]

Each engine runs in a process of its own. The first build is that of a new oracle, with all that is compiled for it; the next one is
in gradients of the oracle on the same data, when everything is compiled. Times are those of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

ENGINES = ("tensorflow", "jax", "torch")
RUNS = 6
SHAPES = {"perceptron": (2048, 784), "convolutional": (1024, 16, 16, 3)}


def network(kind: str) -> Any:
    from keras import Input, Sequential, layers

    if kind == "perceptron":
        hidden = [layers.Dense(256, activation="relu") for _ in range(2)]
    else:
        convolutions = [layers.Conv2D(width, 3, activation="relu") for width in (16, 32)]
        hidden = [convolutions[0], layers.MaxPooling2D(), convolutions[1], layers.Flatten()]
    return Sequential([Input(SHAPES[kind][1:]), *hidden, layers.Dense(10)])


def costs(kind: str) -> dict[str, float]:
    """Seconds of the first build, and gradients of the next one, whose engine is kept."""
    from invariant_sharpness_keras import building

    random, model, kept = np.random.default_rng(0), network(kind), {}
    data = random.normal(size=SHAPES[kind]).astype("float32"), random.integers(10, size=SHAPES[kind][0])
    new_engine = building.engine_of

    def engine_of(model: Any, loss: Any, *rest: Any) -> Any:
        if loss.name not in kept:
            kept[loss.name] = new_engine(model, loss, *rest)
        return kept[loss.name]

    with patch.object(building, "engine_of", engine_of):
        first = _seconds(lambda: building.build_oracle(model, data))
        oracle = building.build_oracle(model, data)

        def gradient() -> Any:
            return oracle.to_numpy(oracle.gradient(oracle.parameters))

        gradient()
        pairs = [(_seconds(lambda: building.build_oracle(model, data)), _seconds(gradient)) for _ in range(RUNS)]
    again, unit = np.array(pairs).min(axis=0)
    return {"first build, in seconds": first, "next build, in gradients": float(again / unit)}


def _seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def in_a_process(engine: str) -> dict[str, dict[str, float]]:
    """The costs of both networks, from a process that runs Keras on this engine."""
    command = [sys.executable, __file__, "--in-process"]
    environment = os.environ | {"KERAS_BACKEND": engine}
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", metavar="ENGINE")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        print(json.dumps({kind: costs(kind) for kind in SHAPES}))
        return
    table = Table("engine", "network", "first build, in seconds", "next build, in gradients")
    for engine in arguments.engines or ENGINES:
        for kind, found in in_a_process(engine).items():
            table.add_row(engine, kind, *(f"{value:.1f}" for value in found.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
