"""All checks of a metric: one after the other, or as tests of pytest, which is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from inspect import unwrap
from typing import TYPE_CHECKING, get_args

from invariant_sharpness.adapters.model_metrics import ModelMetric
from invariant_sharpness.errors import ArgumentError, missing_dependency
from invariant_sharpness.evaluation.door import AnyMetric, as_metric, as_metrics, require_different_names
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries import Invariance
from invariant_sharpness.symmetries.invariances import covers
from invariant_sharpness.testing.metric_checks import (
    REFERENCE,
    Case,
    check_batch_order,
    check_batch_size,
    check_counterexample,
    check_determinism,
    check_extreme_scales,
    check_function_preserved,
    check_invariance,
    check_nonnegative,
    check_permutation,
    check_same_value,
    check_state_restored,
    compared_frameworks,
)
from invariant_sharpness.testing.problems import RESCALINGS, Problem, default_problems
from invariant_sharpness.testing.results import (
    CheckExpectedError,
    CheckResult,
    CheckSkippedError,
    OnFail,
    Run,
    as_expected,
    caught,
    results_of,
)

if TYPE_CHECKING:
    import pytest

_KINDS_OF_OUTPUTS = ("output_shift", "output_scale")
_KINDS = ("permutation", *RESCALINGS, *_KINDS_OF_OUTPUTS)

Oracles = CurvatureOracle | Problem | Sequence[CurvatureOracle | Problem]
"""What a metric is tested on."""


def check_metric(
    metric: AnyMetric,
    *,
    oracles: Oracles | None = None,
    claims: Collection[str] | None = None,
    seed: int = 0,
    on_fail: OnFail = "raise",
    expected_failures: Mapping[str, str] | None = None,
) -> list[CheckResult]:
    """Check that a metric is what its author says, on networks of your own or on the library's. No test framework is needed.

    Its value is the same when it is measured again, and nothing is changed by that; it stays under the symmetries that it is declared
    invariant under, also where units are huge and tiny, and moves under all others; it does not depend on the order of units, examples
    and batches, nor on the framework; it is not negative.

    Parameters
    ----------
    metric
        A callable ``oracle -> number or Estimate``; a metric of a framework's models, made into one by ``model_metric`` of
        ``invariant_sharpness_torch``, ``invariant_sharpness_jax`` or ``invariant_sharpness_keras``; or one of the library's, also by its name.
    oracles
        What to test on: an oracle, a :class:`Problem`, or several of both. Default: two small ReLU networks, on NumPy or the framework of
        the metric.
    claims
        The invariances of the metric, in the words of the declarations, such as ``{"row_column"}``. Default: what the library declares, and
        for others nothing.
    seed
        Seed of the transformations, and of metrics that take one.
    on_fail
        ``"raise"``: stop at the first failure. ``"return"``: run everything.
    expected_failures
        Reasons, by the names of the checks that are expected to fail. A check that passes nevertheless has failed.

    Returns
    -------
    list of CheckResult
        One per check. Cost: about 50 values for each network.

    Raises
    ------
    CheckFailedError
        With ``on_fail="raise"``, at the first check that fails; names the check.
    ArgumentError
        If a metric, a claim, or a check that is expected to fail is not known, or a reason is missing.

    Examples
    --------
    The norm of the gradient grows where weights shrink; that of parameters times gradient does not see either.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness.testing import check_metric
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork([np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]])], [np.ones(2), np.ones(1)])
    >>> oracle = ish.oracle(network, (np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])), loss="mse")
    >>> def raw(oracle):
    ...     return oracle.gradient(oracle.parameters).norm()
    >>> def adaptive(oracle):
    ...     return (oracle.parameters * oracle.gradient(oracle.parameters)).norm()
    >>> for metric in (raw, adaptive):
    ...     results = check_metric(metric, oracles=oracle, claims={"row_column"}, on_fail="return")
    ...     print([result.check for result in results if result.status == "failed"])
    ['check_invariance[layer]', 'check_invariance[row_column]', 'check_extreme_scales']
    []
    """
    checks = metric_checks(metric, oracles, claims, seed)
    return results_of(as_expected(checks, expected_failures or {}), on_fail)


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
        What to test, as in :func:`check_metric`: one metric, or several names and callables.
    oracles
        What to test on, as in :func:`check_metric`, for all of these metrics.
    claims
        The invariances of each metric, by its name: ``{"my_metric": {"row_column"}}``.
    seed, expected_failures
        As in :func:`check_metric`, for all of these metrics.

    Returns
    -------
    pytest.MarkDecorator
        A decorator. No network is built before a test runs. Cost of the tests: about 50 values for each metric and network.

    Raises
    ------
    MissingDependencyError
        If pytest is not installed.
    ArgumentError
        If a metric, a claim, or a check that is expected to fail is not known, two metrics have the same name, or a reason is missing.

    Examples
    --------
    >>> from invariant_sharpness.testing import parametrize_with_checks
    >>> def gradient_norm(oracle):
    ...     return oracle.gradient(oracle.parameters).norm()
    >>> decorator = parametrize_with_checks([gradient_norm])
    >>> [parameter.id for parameter in decorator.args[1]][:2]
    ['gradient_norm-check_function_preserved', 'gradient_norm-check_state_restored']
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


def metric_checks(
    metric: AnyMetric, oracles: Oracles | None, claims: Collection[str] | None, seed: int
) -> dict[str, Run]:
    """Return all checks of a metric by name, in the order in which they run. No network is built before one of them is called.

    What a metric leaves behind is looked at when it is first measured: a change that is made once is not seen later.
    """
    asked = as_metric(metric, claims)
    _require_known(asked.invariances)
    own = unwrap(asked)
    framework = own.framework if isinstance(own, ModelMetric) else ""
    given = None if oracles is None else _as_problems(oracles)
    case = Case(
        asked,
        lambda: default_problems(framework or REFERENCE, asked.invariances) if given is None else given,
        framework,
        seed,
    )
    checks: dict[str, Run] = {
        "check_function_preserved": partial(check_function_preserved, case),
        "check_state_restored": partial(check_state_restored, case),
        "check_determinism": partial(check_determinism, case),
        **_checks_of_symmetries(case, given),
        "check_extreme_scales": partial(check_extreme_scales, case),
        "check_permutation": partial(check_permutation, case),
        "check_nonnegative": partial(check_nonnegative, case),
        "check_batch_order": partial(check_batch_order, case),
        "check_batch_size": partial(check_batch_size, case),
    }
    if given is None and not framework:
        checks |= {f"check_same_value[{name}]": partial(check_same_value, case, name) for name in compared_frameworks()}
    return {name: caught(check, "measuring") for name, check in checks.items()}


def _checks_of_symmetries(case: Case, given: Sequence[Problem] | None) -> dict[str, Run]:
    """Return one check for each kind of symmetry: that the metric stays where it is declared to, or else that it moves.

    An invariance that no kind here is for has a check too, which is skipped and so seen.
    """
    if given is None:
        kinds = [*RESCALINGS, *(kind for kind in _KINDS_OF_OUTPUTS if case.is_invariant_to(kind))]
    else:
        kinds = list(dict.fromkeys([*RESCALINGS, *(s.kind for problem in given for s in problem.symmetries)]))
    tested = ("permutation", *kinds)
    untested = [word for word in case.metric.invariances if not any(covers({word}, kind) for kind in tested)]
    checks: dict[str, Run] = {}
    for kind in kinds:
        if case.is_invariant_to(kind):
            checks[f"check_invariance[{kind}]"] = partial(check_invariance, case, kind)
        else:
            checks[f"check_counterexample[{kind}]"] = partial(check_counterexample, case, kind)
    return checks | {f"check_invariance[{word}]": partial(check_invariance, case, word) for word in sorted(untested)}


def _require_known(invariances: Collection[str]) -> None:
    words = {*get_args(Invariance), *_KINDS}
    if unknown := sorted(set(invariances) - words):
        msg = f"there is no invariance {', '.join(map(repr, unknown))}; the words of the declarations are {', '.join(sorted(words))}"
        raise ArgumentError(msg)


def _as_problems(oracles: Oracles) -> list[Problem]:
    several = oracles if isinstance(oracles, Sequence) else [oracles]
    if not several:
        msg = "oracles is empty: give at least one, or None for the default networks"
        raise ArgumentError(msg)
    return [given if isinstance(given, Problem) else Problem(given) for given in several]


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
