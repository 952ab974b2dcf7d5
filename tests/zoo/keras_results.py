"""What the programs of the Keras tests found; each engine runs once, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "keras_programs" / "run.py"
FRAMEWORKS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
MISSING = {
    name: next((part for part in ("keras", framework) if find_spec(part) is None), None)
    for name, framework in FRAMEWORKS.items()
}
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(part is not None, reason=f"{part} is not installed"))
    for name, part in MISSING.items()
]
DOUBLE = {"tensorflow": True, "jax": False, "torch": False}
TOLERANCE = {engine: 1e-9 if double else 1e-4 for engine, double in DOUBLE.items()}
every_engine = pytest.mark.parametrize("engine", ENGINES)
tensorflow_alone = pytest.mark.skipif(
    MISSING["tensorflow"] is not None, reason=f"{MISSING['tensorflow']} is not installed"
)


@cache
def results(engine: str) -> dict[str, Any]:
    """What all checks of an engine found; they run once."""
    settings = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # to compile a tiny network well takes longer than to run it
    }
    run = subprocess.run(
        [sys.executable, str(PROGRAM), engine], capture_output=True, text=True, check=False, env=os.environ | settings
    )
    assert run.returncode == 0, f"the checks of {engine} fail:\n{run.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def found(engine: str, check: str) -> Any:
    result = results(engine)[check]
    assert "found" in result, f"{check} on {engine}:\n{result.get('raised')}"
    return result["found"]


def relative_error(pair: list[float]) -> float:
    value, expected = pair
    return abs(value - expected) / max(abs(expected), 1e-300)
