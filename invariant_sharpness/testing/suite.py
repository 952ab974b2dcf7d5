"""Tests for pytest without a test file: one for each metric that the command line names, and each check of it.

``pytest --pyargs invariant_sharpness.testing.suite --invariant-metric package.module:metric``
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from invariant_sharpness.evaluation.door import as_metric
from invariant_sharpness.evaluation.targets import TargetError, load_metric, load_oracle
from invariant_sharpness.testing import parametrize_with_checks


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Import what the command line names, and list its checks."""
    option = metafunc.config.option
    if not option.invariant_metric:
        msg = "there is no metric to test: give --invariant-metric package.module:metric, or file.py:metric"
        raise pytest.UsageError(msg)
    try:
        metrics = [load_metric(target) for target in option.invariant_metric]
        oracles = [load_oracle(target) for target in option.invariant_model]
        decorator = parametrize_with_checks(
            metrics,
            oracles=oracles or None,
            claims=_claims(metrics, option.invariant_claims),
            expected_failures=dict(_expected(text) for text in option.invariant_expected_failure),
        )
    except (TargetError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize(*decorator.args, **decorator.kwargs)


def test_metric(check: Callable[[], None]) -> None:
    """Run one check of one metric."""
    check()


def _claims(metrics: list[Any], words: str | None) -> dict[str, list[str]]:
    """Return the same claims for all metrics, if they are given."""
    if words is None:
        return {}
    return {as_metric(metric).name: [word.strip() for word in words.split(",") if word.strip()] for metric in metrics}


def _expected(text: str) -> tuple[str, str]:
    check, _, reason = text.partition("=")
    return check, reason
