"""All checks of a metric, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from inspect import unwrap
from typing import get_args

from invariant_sharpness.adapters.model_metrics import ModelMetric
from invariant_sharpness.evaluation.door import AnyMetric, as_metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.symmetries import Invariance
from invariant_sharpness.symmetries.claims import covers
from invariant_sharpness.testing.default_networks import default_specimens
from invariant_sharpness.testing.metric_checks import (
    Trial,
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
)
from invariant_sharpness.testing.metric_checks.frameworks import REFERENCE, compared
from invariant_sharpness.testing.results import CheckResult, OnFail, Run, as_expected, caught, results_of
from invariant_sharpness.testing.specimens import RESCALINGS, Specimen

_OF_OUTPUTS = ("output_shift", "output_scale")
_KNOWN = ("permutation", *RESCALINGS, *_OF_OUTPUTS)

Oracles = CurvatureOracle | Specimen | Sequence[CurvatureOracle | Specimen]


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

    Its value is the same when it is measured again, and nothing is changed by that; it stays under the symmetries that it is said to
    survive, also where units are huge and tiny, and moves under all others; it does not depend on the order of units, examples and batches, nor
    on the framework; it is not negative.

    Parameters
    ----------
    metric
        A callable ``oracle -> number or Estimate``; a metric of a framework's models, made into one by ``model_metric`` of
        ``invariant_sharpness_torch``, ``invariant_sharpness_jax`` or ``invariant_sharpness_keras``; or the name of one of the library's.
    oracles
        To test on: an oracle, a :class:`Specimen`, or several of both. Default: two small ReLU networks, on NumPy or the framework of the metric.
    claims
        What the metric is said to survive, in the words of the declarations, such as ``{"row_column"}``. Default: what the library declares, and for
        others nothing.
    seed
        Of the moves.
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
    ValueError
        If a metric, a claim, or a check that is expected to fail is not known, or a reason is missing.
    """
    checks = metric_checks(metric, oracles, claims, seed)
    return results_of(as_expected(checks, expected_failures or {}), on_fail)


def metric_checks(
    metric: AnyMetric, oracles: Oracles | None, claims: Collection[str] | None, seed: int
) -> dict[str, Run]:
    """All checks of a metric by name, in the order in which they run. No network is built before one of them is called.

    What a metric leaves behind is looked at when it is first measured: a change that is made once is not seen later.
    """
    asked = as_metric(metric, claims)
    _check_claims(asked.invariances)
    own = unwrap(asked)
    framework = own.framework if isinstance(own, ModelMetric) else ""
    given = None if oracles is None else _as_specimens(oracles)
    trial = Trial(
        asked,
        lambda: default_specimens(framework or REFERENCE, asked.invariances) if given is None else given,
        framework,
        seed,
    )
    checks: dict[str, Run] = {
        "check_function_preserved": partial(check_function_preserved, trial),
        "check_state_restored": partial(check_state_restored, trial),
        "check_determinism": partial(check_determinism, trial),
        **_checks_of_symmetries(trial, given),
        "check_extreme_scales": partial(check_extreme_scales, trial),
        "check_permutation": partial(check_permutation, trial),
        "check_nonnegative": partial(check_nonnegative, trial),
        "check_batch_order": partial(check_batch_order, trial),
        "check_batch_size": partial(check_batch_size, trial),
    }
    if given is None and not framework:
        checks |= {f"check_same_value[{name}]": partial(check_same_value, trial, name) for name in compared()}
    return {name: caught(check, "measuring") for name, check in checks.items()}


def _checks_of_symmetries(trial: Trial, given: Sequence[Specimen] | None) -> dict[str, Run]:
    """For each kind of symmetry: that the metric survives it if it is said to, that it moves if not; and one for each claim that no kind is for."""
    invariances = trial.metric.invariances
    if given is None:
        kinds = [*RESCALINGS, *(kind for kind in _OF_OUTPUTS if trial.claims(kind))]
    else:
        kinds = list(dict.fromkeys([*RESCALINGS, *(s.kind for specimen in given for s in specimen.symmetries)]))
    untested = [claim for claim in invariances if not any(covers({claim}, kind) for kind in ("permutation", *kinds))]
    checks: dict[str, Run] = {}
    for kind in kinds:
        if trial.claims(kind):
            checks[f"check_invariance[{kind}]"] = partial(check_invariance, trial, kind)
        else:
            checks[f"check_counterexample[{kind}]"] = partial(check_counterexample, trial, kind)
    return checks | {
        f"check_invariance[{claim}]": partial(check_invariance, trial, claim) for claim in sorted(untested)
    }


def _check_claims(claims: Collection[str]) -> None:
    words = {*get_args(Invariance), *_KNOWN}
    if unknown := sorted(set(claims) - words):
        msg = f"there is no invariance {', '.join(map(repr, unknown))}; the words of the declarations are {', '.join(sorted(words))}"
        raise ValueError(msg)


def _as_specimens(oracles: Oracles) -> list[Specimen]:
    several = oracles if isinstance(oracles, Sequence) else [oracles]
    if not several:
        msg = "oracles is empty: give at least one, or None for the default networks"
        raise ValueError(msg)
    return [given if isinstance(given, Specimen) else Specimen(given) for given in several]
