"""The checks of metrics as tests of pytest, which is imported only here and when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from invariant_sharpness.errors import missing_dependency
from invariant_sharpness.evaluation.candidates import NumberMetric, candidates
from invariant_sharpness.testing.expectations import as_expected
from invariant_sharpness.testing.metric_suite import Oracles, metric_checks
from invariant_sharpness.testing.results import CheckExpectedError, CheckSkippedError
from invariant_sharpness.testing.running import Run

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    metrics: str | Iterable[str | NumberMetric],
    *,
    oracles: Oracles | None = None,
    claims: Mapping[str, Collection[str]] | None = None,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Decorate a test ``def test_metrics(check): check()``: pytest runs it once for each metric and check.

    What is skipped is skipped in pytest, and an expected failure is an ``xfail`` with its reason.

    Parameters
    ----------
    metrics
        As in :func:`check_metric`: one name, or several names and callables.
    oracles, seed, expected_failures
        As in :func:`check_metric`, for all of these metrics.
    claims
        What each metric is said to survive, by its name: ``{"my_metric": {"row_column"}}``.

    Raises
    ------
    MissingDependencyError
        If pytest is not installed.
    ValueError
        If a metric, a claim, or a check that is expected to fail is not known, two metrics have the same name, or a reason is missing.
    """
    try:
        import pytest
    except ImportError as cause:
        error = missing_dependency("pytest", "testing", "parametrize_with_checks")
        raise error from cause
    asked = [metrics] if isinstance(metrics, str) else list(metrics)
    tests = []
    for metric, one in zip(asked, candidates(asked, claims or {}), strict=True):
        checks = metric_checks(metric, oracles, one.invariances, seed)
        for name, check in as_expected(checks, expected_failures or {}).items():
            tests.append(pytest.param(_test(check), id=f"{one.name}-{name}"))
    return pytest.mark.parametrize("check", tests)


def _test(check: Run) -> Callable[[], None]:
    def run() -> None:
        import pytest

        try:
            check()
        except CheckSkippedError as reason:
            pytest.skip(str(reason))
        except CheckExpectedError as failure:
            pytest.xfail(str(failure))

    return run
