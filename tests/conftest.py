"""Options of the test suite: a backend that was asked for and is missing is an error, not a skip."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# The networks are tiny: a second thread would only wait for the first.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

IMPORTS = {
    "torch": r"^(import torch|from torch|from zoo\.networks|from zoo\.torch_networks|from zoo\.problems import TORCH_KINDS)\b",
    "jax": r"^(import jax|from jax|from zoo\.jax_networks)\b",
    "flax": r"^(import flax|from flax)\b",
    "equinox": r"^import equinox\b",
}
FRAMEWORKS = {name: name for name in ("numpy", "torch", "jax", "keras", "tensorflow")}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-backends", default="", help="comma-separated backends whose framework must be installed"
    )


def pytest_configure(config: pytest.Config) -> None:
    required = [name for name in config.getoption("--require-backends").split(",") if name]
    unknown = [name for name in required if name not in FRAMEWORKS]
    if unknown:
        raise pytest.UsageError(f"unknown backends {unknown}: the backends are {sorted(FRAMEWORKS)}")
    missing = [name for name in required if find_spec(FRAMEWORKS[name]) is None]
    if missing:
        raise pytest.UsageError(f"backends {missing} were required, but their frameworks are not installed")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out tests that import a framework which is not installed, instead of failing on them."""
    missing = [pattern for framework, pattern in IMPORTS.items() if find_spec(framework) is None]
    if collection_path.suffix != ".py" or not missing:
        return None
    source = collection_path.read_text(encoding="utf-8")
    return True if any(re.search(pattern, source, re.MULTILINE) for pattern in missing) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share what is computed once stay in one process, where the suite runs in several.

    Its own ``--dist loadgroup`` has no effect with the node identifiers of pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "keras" if Path(file).name.startswith("test_keras") else file

    return ByFile(config, log)


def pytest_report_header() -> list[str]:
    return [f"{name}: not installed, its tests are skipped" for name, m in FRAMEWORKS.items() if find_spec(m) is None]
