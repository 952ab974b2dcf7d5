"""Parameters and data that are spread over devices: the same numbers, and vectors that lie where the parameters do."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import jax
import pytest

from zoo import ROOT
from zoo.host_devices import divided_processor

pytestmark = pytest.mark.slow


@cache
def run() -> Any:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "zoo.jax_sharded"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "tests",
        env=divided_processor(4),
    )


def found(layout: str) -> dict[str, Any]:
    assert run().returncode == 0, f"JAX {jax.__version__}: {run().stderr}"
    results: dict[str, Any] = json.loads(run().stdout)[layout]
    return results


@pytest.mark.parametrize("layout", ["units", "units, typed", "rows and examples", "examples"])
def test_numbers_do_not_depend_on_where_arrays_are(layout: str) -> None:
    wrong = {what: error for what, error in found(layout)["errors"].items() if not error <= 1e-12}
    assert not wrong, f"differences {wrong}"


@pytest.mark.parametrize("layout", ["units", "units, typed", "rows and examples"])
def test_vectors_are_spread_as_the_parameters_are(layout: str) -> None:
    moved = {what: names for what, names in found(layout)["moved"].items() if names}
    assert not moved, f"spread otherwise: {moved}"
