"""Options of the test suite: a backend that was asked for and is missing is an error, not a skip."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

FRAMEWORKS = {"numpy": "numpy", "torch": "torch"}


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


def pytest_ignore_collect(collection_path) -> bool | None:  # noqa: ANN001
    """Leave out the tests of a framework that is not installed, instead of failing to import them."""
    name = collection_path.name
    return True if name.startswith("test_torch") and find_spec("torch") is None else None


def pytest_report_header() -> list[str]:
    return [f"{name}: not installed, its tests are skipped" for name, m in FRAMEWORKS.items() if find_spec(m) is None]
