"""Run the checks of an engine, which is fixed per process, and print what they found as JSON on the last line."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

ALWAYS = ("reference", "losses_of_keras", "forms_of_input", "bad_input")
DEEP = (
    "every_metric",
    "twins",
    "rescaling",
    "layer_squares",
    "weighted_losses",
    "own_layers",
    "own_examples",
    "whole_batches",
    "watched_fits",
)
ONCE = (
    "untouched_model",
    "products",
    "exactness",
    "layers_of_keras",
    "model_metric",
    "optimizers",
    "conformance",
    "symmetries_of_keras",
)
"""On TensorFlow always; on the others, whose engines are those of torch and JAX, in the slow tests."""


def modules(engine: str, *, deep: bool) -> tuple[str, ...]:
    if engine == "tensorflow":
        return (
            (*DEEP, "mobile_network", "plain_module", "layer_draws") if deep else (*ALWAYS, *ONCE, "tensorflow_alone")
        )
    return (*DEEP, *ONCE) if deep else ALWAYS


def results(engine: str, *, deep: bool) -> dict[str, Any]:
    os.environ["KERAS_BACKEND"] = engine
    found: dict[str, Any] = {"seconds": {}}
    for module in modules(engine, deep=deep):
        for check in importlib.import_module(module).CHECKS:
            started = time.process_time()
            try:
                found[check.__name__] = {"found": check()}
            except Exception:
                found[check.__name__] = {"raised": traceback.format_exc()}
            found["seconds"][check.__name__] = round(time.process_time() - started, 1)
    return found


if __name__ == "__main__":
    print(json.dumps(results(sys.argv[1], deep=sys.argv[2] == "deep")))
