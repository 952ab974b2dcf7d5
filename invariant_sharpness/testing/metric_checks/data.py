"""Data and frameworks: a metric depends on the examples, not on how they come, nor on what differentiates the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invariant_sharpness import prng
from invariant_sharpness.adapters.model_metrics import model_backend
from invariant_sharpness.adapters.registry import ModelBackend, backends
from invariant_sharpness.protocol import CurvatureOracle, SubsetOracle, machine_epsilon, require
from invariant_sharpness.results.agreement import other_draws
from invariant_sharpness.testing.metric_checks.case import Case
from invariant_sharpness.testing.problems import Problem, ReluTask, default_tasks
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

REFERENCE = "numpy"
_NOT_COMPARED = ("keras",)
"""It computes by the others, or by TensorFlow, which takes longer to import than all checks take."""

_BATCH_SIZES = (7, 1)
_ADVICE = "sum over the examples, and divide once by their number or weight. If examples are sampled, return an Estimate with its standard_error"


def check_batch_order(case: Case) -> Figures:
    """Check that the value is the same with the examples in another order, up to its standard error.

    Cost: two values for each network.
    """
    changes = []
    for problem in _rebuildable(case):
        count = _count(problem)
        order = prng.permutation(case.seed, count).tolist()
        changes.append(_change(case, problem, order, count, "with the examples in another order"))
    return {"largest_change": max(changes)}


def check_batch_size(case: Case) -> Figures:
    """Check that the value is the same in batches of seven (the last is shorter) and of one, up to its standard error.

    Cost: three values for each network.
    """
    changes = []
    for problem in _rebuildable(case):
        order = range(_count(problem))
        changes += [_change(case, problem, order, size, f"in batches of {size}") for size in _BATCH_SIZES]
    return {"largest_change": max(changes)}


def check_same_value(case: Case, framework: str) -> Figures:
    """Check that with the same weights, the value on a framework is that on NumPy, up to its standard error.

    Cost: two values for each default network.
    """
    changes = []
    for task in default_tasks():
        reference, other = task.oracle(REFERENCE), _oracle(task, framework)
        eps = max(machine_epsilon(reference), machine_epsilon(other))
        agreement = other_draws(case.value(reference), case.value(other), eps)
        changes.append(agreement.change)
        if not agreement.holds:
            msg = (
                f"on NumPy and on {model_backend(framework).name}, the values of {case.name} on {task.name} are {agreement}. Frameworks store layers in "
                f"other orders and shapes: find rows and columns by the axes of oracle.groups, add up without regard to order, and draw "
                f"random numbers with invariant_sharpness.prng"
            )
            raise CheckFailedError(msg, {"change": agreement.change})
    return {"largest_change": max(changes)}


def compared_frameworks() -> list[str]:
    """Return the backends that the reference is compared with."""
    own = (REFERENCE, *_NOT_COMPARED)
    return [name for name, found in backends().items() if name not in own and isinstance(found, ModelBackend)]


def _rebuildable(case: Case) -> list[Problem]:
    problems = [problem for problem in case.problems if problem.rebuild]
    if not problems:
        msg = (
            "an oracle has the batches that it was given: to compare others, give Problem(oracle, rebuild=(order, batch_size) -> oracle), "
            "or no networks, which takes the default ones"
        )
        raise CheckSkippedError(msg)
    return problems


def _count(problem: Problem) -> int:
    return require(problem.oracle, SubsetOracle, metric="check_metric").examples


def _change(case: Case, problem: Problem, order: Sequence[int], batch_size: int, how: str) -> float:
    rebuild: Any = problem.rebuild
    before, after = case.value(problem.oracle), case.value(rebuild(order, batch_size))
    agreement = other_draws(before, after, machine_epsilon(problem.oracle))
    if not agreement.holds:
        msg = f"{how}, the values of {case.name} on {problem} are {agreement}: {_ADVICE}"
        raise CheckFailedError(msg, {"change": agreement.change})
    return agreement.change


def _oracle(task: ReluTask, framework: str) -> CurvatureOracle:
    try:
        return task.oracle(framework)
    except ImportError as error:
        msg = f"{model_backend(framework).name} is not installed: {error}"
        raise CheckSkippedError(msg) from error
