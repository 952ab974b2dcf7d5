"""What the programs of the Keras tests found; each engine runs in a process of its own.

What ``make test`` asks for runs once, and what only the slow tests ask for once more.
"""

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

from zoo.keras_programs import run as program

PROGRAM = Path(__file__).parent / "keras_programs" / "run.py"
FRAMEWORKS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
MISSING = {
    name: next((part for part in ("keras", framework) if find_spec(part) is None), None)
    for name, framework in FRAMEWORKS.items()
}
DOUBLE = {"tensorflow": True, "jax": False, "torch": False}
TOLERANCE = {engine: 1e-9 if double else 1e-4 for engine, double in DOUBLE.items()}


def engines(*deep: str) -> pytest.MarkDecorator:
    """All engines, those named here in the slow tests."""
    return pytest.mark.parametrize(
        "engine",
        [
            pytest.param(
                name,
                marks=[
                    pytest.mark.skipif(part is not None, reason=f"{part} is not installed"),
                    *([pytest.mark.slow] if name in deep else []),
                ],
            )
            for name, part in MISSING.items()
        ],
    )


every_engine = engines()
every_engine_deep = engines(*FRAMEWORKS)
tensorflow_before_others = engines("jax", "torch")
tensorflow_alone = pytest.mark.skipif(
    MISSING["tensorflow"] is not None, reason=f"{MISSING['tensorflow']} is not installed"
)


def found(engine: str, check: str) -> Any:
    deep = module_of(check) in program.modules(engine, deep=True)
    result = results(engine, deep=deep)[check]
    assert "found" in result, f"{check} on {engine}:\n{result.get('raised')}"
    return result["found"]


@cache
def module_of(check: str) -> str:
    """Find the module that defines a check, without Keras, which the process of the tests shall not import."""
    files = (path for path in PROGRAM.parent.glob("*.py") if f"\ndef {check}(" in path.read_text(encoding="utf-8"))
    return next(files).stem


@cache
def results(engine: str, *, deep: bool) -> dict[str, Any]:
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), engine, "deep" if deep else "always"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    assert run.returncode == 0, f"the checks of {engine} fail:\n{run.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def relative_error(pair: list[float]) -> float:
    value, expected = pair
    return abs(value - expected) / max(abs(expected), 1e-300)
