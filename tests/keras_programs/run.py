"""Run all checks of an engine, which is fixed per process, and print what they found as JSON on the last line."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


def results(engine: str) -> dict[str, Any]:
    os.environ["KERAS_BACKEND"] = engine
    modules = ["every_engine"] + (["tensorflow_alone"] if engine == "tensorflow" else [])
    found: dict[str, Any] = {"seconds": {}}
    for module in modules:
        for check in importlib.import_module(module).CHECKS:
            started = time.perf_counter()
            try:
                found[check.__name__] = {"found": check()}
            except Exception:
                found[check.__name__] = {"raised": traceback.format_exc()}
            found["seconds"][check.__name__] = round(time.perf_counter() - started, 1)
    return found


if __name__ == "__main__":
    print(json.dumps(results(sys.argv[1])))
