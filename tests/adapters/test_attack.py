"""Random networks that nobody tuned to, against their dense Hessians."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest

from zoo import EXPERIMENTS

NETWORKS = {"torch": 25, "numpy": 15, "jax": 5, "tensorflow": 5}


@pytest.mark.slow
@pytest.mark.parametrize("framework", NETWORKS)
def test_no_value_of_a_random_network_is_outside_its_error(framework: str) -> None:
    for package in {"torch", framework}:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(EXPERIMENTS / "attack.py"), framework]
    options = ["--networks", str(NETWORKS[framework]), "--processes", "1"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{run.stdout[-4000:]}{run.stderr[-1000:]}"
