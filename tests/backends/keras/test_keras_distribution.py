"""Models and data that are distributed over two devices of one process have the metrics of one device."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from zoo import ROOT
from zoo.host_devices import divided_processor
from zoo.keras_results import MISSING, tensorflow_alone

pytestmark = pytest.mark.slow


@cache
def ended(engine: str) -> Any:
    program = ROOT / "tests" / "zoo" / "keras_programs" / "distributed.py"
    command = [sys.executable, str(program), engine]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=divided_processor(2))


def compare(engine: str, kind: str) -> None:
    assert ended(engine).returncode == 0, ended(engine).stderr
    result = json.loads(ended(engine).stdout.splitlines()[-1])
    for name, value in result["expected"].items():
        found = result["found"][kind][name]
        assert found == pytest.approx(value, rel=1e-12), f"{name}: {found} instead of {value}"


@tensorflow_alone
@pytest.mark.parametrize("kind", ["plain data", "distributed data", "list of batches"])
def test_strategy_with_two_replicas(kind: str) -> None:
    compare("tensorflow", kind)


@pytest.mark.skipif(MISSING["jax"] is not None, reason=f"{MISSING['jax']} is not installed")
@pytest.mark.parametrize("kind", ["data parallel", "model parallel"])
def test_distribution_over_two_devices_of_jax(kind: str) -> None:
    compare("jax", kind)
