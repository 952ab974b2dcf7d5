"""Options of the test suite, what its processes share, and which tests have to stay in one process."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from typing import Any

import pytest

from zoo.installed import missing

# The networks are tiny: a second thread would only wait for the first.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# To compile a tiny network well takes longer than to run it. What is compiled serves every process of the run, also
# those of the engines of Keras: they inherit these settings, and the folder that pytest_configure makes.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

FRAMEWORKS = ("numpy", "torch", "jax", "keras", "tensorflow")
ENGINE = re.compile(r"[\[-](tensorflow|jax|torch)\b")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-backends", default="", help="comma-separated backends whose framework must be installed"
    )


def pytest_configure(config: pytest.Config) -> None:
    required = [name for name in config.getoption("--require-backends").split(",") if name]
    unknown = [name for name in required if name not in FRAMEWORKS]
    if unknown:
        raise pytest.UsageError(f"unknown backends {unknown}: the backends are {sorted(FRAMEWORKS)}")
    if missing(*required):
        raise pytest.UsageError(f"backends {missing(*required)} were required, but their frameworks are not installed")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="jax-cache-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def scope(nodeid: str) -> str:
    """What stays in one process: a file, whose tests share what is computed once; or an engine of Keras."""
    file = nodeid.split("::")[0]
    if "test_keras" not in file:
        return file
    engine = ENGINE.search(nodeid)
    return f"keras {engine[1]}" if engine else "keras tensorflow"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the engines of Keras, each of which runs for minutes before its first test has a result."""
    items.sort(key=lambda item: not scope(item.nodeid).startswith("keras"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Its own ``--dist loadgroup`` has no effect with the node identifiers of pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    config.option.loadscopereorder = False
    return ByScope(config, log)


def pytest_report_header() -> list[str]:
    return [f"{name}: not installed, its tests are skipped" for name in missing(*FRAMEWORKS)]
