"""The checks of metrics as tests of pytest, which is imported only here and when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from invariant_sharpness.errors import missing_dependency
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics, require_different_names
from invariant_sharpness.testing.metric_suite import Oracles, metric_checks
from invariant_sharpness.testing.results import CheckExpectedError, CheckSkippedError, Run, as_expected

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    metrics: AnyMetric | Iterable[AnyMetric],
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
    asked = as_metrics(metrics, claims or {})
    require_different_names(asked)
    tests = []
    for metric in asked:
        checks = metric_checks(metric, oracles, None, seed)
        for name, check in as_expected(checks, expected_failures or {}).items():
            tests.append(pytest.param(_test(check), id=f"{metric.name}-{name}"))
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
