"""Run all checks of an engine, which is fixed per process, and print what they found as JSON on the last line."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

EVERY_ENGINE = (
    "reference",
    "twins",
    "products",
    "conformance",
    "exactness",
    "layer_squares",
    "rescaling",
    "symmetries_of_keras",
    "layers_of_keras",
    "forms_of_input",
    "untouched_model",
    "bad_input",
    "model_metric",
)
TENSORFLOW = ("tensorflow_alone", "mobile_network")


def results(engine: str) -> dict[str, Any]:
    os.environ["KERAS_BACKEND"] = engine
    found: dict[str, Any] = {"seconds": {}}
    for module in (*EVERY_ENGINE, *(TENSORFLOW if engine == "tensorflow" else ())):
        for check in importlib.import_module(module).CHECKS:
            started = time.process_time()
            try:
                found[check.__name__] = {"found": check()}
            except Exception:
                found[check.__name__] = {"raised": traceback.format_exc()}
            found["seconds"][check.__name__] = round(time.process_time() - started, 1)
    return found


if __name__ == "__main__":
    print(json.dumps(results(sys.argv[1])))
