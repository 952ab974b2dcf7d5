"""Values: a metric gives the same number twice, changes nothing by it, and the number is not negative."""

from __future__ import annotations

from typing import Any

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.metric_checks.case import Case
from invariant_sharpness.testing.points import nearby_point
from invariant_sharpness.testing.problems import Problem
from invariant_sharpness.testing.results import CheckFailedError, Figures

_STANDARD_ERRORS = 5.0


def check_state_restored(case: Case) -> Figures:
    """Check that parameters, loss and gradient are what they were, bit by bit; so is the snapshot of a problem that has one.

    Cost: one value for each network.
    """
    for problem in case.problems:
        before = _visible(problem)
        case.value(problem.oracle)
        after = _visible(problem)
        if changed := [what for what in before if before[what] != after[what]]:
            msg = (
                f"measuring {case.name} changed {', '.join(changed)} of {problem}: work on copies (oracle.parameters may be the model's own "
                f"memory), and put the model back in a finally clause"
            )
            raise CheckFailedError(msg)
    return {}


def check_determinism(case: Case) -> Figures:
    """Check that the value is the same bit by bit, also after another network was measured in between.

    Cost: three values for each network.
    """
    for problem in case.problems:
        first = case.value(problem.oracle).value
        case.value(Moved(problem.oracle, nearby_point(problem.oracle, case.seed)))
        second = case.value(problem.oracle).value
        if first != second:
            msg = (
                f"{case.name} is {first!r} on {problem}, and {second!r} when it is measured again: draw random numbers from a generator that "
                f"is made anew from a seed in every call (invariant_sharpness.prng), and keep nothing from call to call"
            )
            raise CheckFailedError(msg, {"difference": abs(first - second)})
    return {}


def check_nonnegative(case: Case) -> Figures:
    """Check that the value is zero or more; a sampled one within its standard error. Cost: one value for each network."""
    values = []
    for problem in case.problems:
        estimate = case.value(problem.oracle)
        values.append(estimate.value)
        if not estimate.value >= -_STANDARD_ERRORS * (estimate.standard_error or 0.0):
            msg = (
                f"{case.name} is {estimate.value:.6g} on {problem}, but a sharpness is zero or more: look for a wrong sign. If it can be negative, "
                f"such as a trace away from a minimum, say so in expected_failures"
            )
            raise CheckFailedError(msg, {"value": estimate.value})
    return {"least_value": min(values)}


def _visible(problem: Problem) -> dict[str, Any]:
    """Return copies of all that can be seen of a problem."""
    oracle = problem.oracle
    point = oracle.parameters
    return {
        "the parameters": _bytes(oracle, point),
        "the loss": oracle.loss(point),
        "the gradient": _bytes(oracle, oracle.gradient(point)),
        "the model": problem.snapshot() if problem.snapshot else None,
    }


def _bytes(oracle: CurvatureOracle, vector: ParameterVector) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in oracle.to_numpy(vector).items()}
