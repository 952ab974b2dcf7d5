"""Models and data that are distributed over two devices of one process have the metrics of one device."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from zoo import ROOT
from zoo.keras_results import tensorflow_alone

pytestmark = pytest.mark.slow


@cache
def ended() -> Any:
    program = ROOT / "tests" / "zoo" / "keras_programs" / "distributed.py"
    return subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)


@tensorflow_alone
@pytest.mark.parametrize("kind", ["plain data", "distributed data", "list of batches"])
def test_strategy_with_two_replicas(kind: str) -> None:
    assert ended().returncode == 0, ended().stderr
    result = json.loads(ended().stdout.splitlines()[-1])
    for name, value in result["expected"].items():
        found = result["found"][kind][name]
        assert found == pytest.approx(value, rel=1e-12), f"{name}: {found} instead of {value}"
