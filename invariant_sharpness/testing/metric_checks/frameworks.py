"""A metric is the same on every framework."""

from __future__ import annotations

from invariant_sharpness.adapters.model_metrics import model_backend
from invariant_sharpness.adapters.registry import ModelBackend, backends
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.results.agreement import other_draws
from invariant_sharpness.testing.default_networks import ReluProblem, problems
from invariant_sharpness.testing.metric_checks.trial import Trial
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError, Figures

REFERENCE = "numpy"
_NOT_COMPARED = ("keras",)
"""It computes by the others, or by TensorFlow, which takes longer to import than all checks take."""


def compared() -> list[str]:
    """The backends that the reference is compared with."""
    own = (REFERENCE, *_NOT_COMPARED)
    return [name for name, found in backends().items() if name not in own and isinstance(found, ModelBackend)]


def check_same_value(trial: Trial, framework: str) -> Figures:
    """With the same weights, the value on a framework is that on NumPy, up to its standard error. Cost: two values for each default network."""
    changes = []
    for problem in problems():
        here, there = problem.oracle(REFERENCE), _oracle(problem, framework)
        precision = max(machine_epsilon(here), machine_epsilon(there))
        agreement = other_draws(trial.value(here), trial.value(there), precision)
        changes.append(agreement.change)
        if not agreement.holds:
            msg = (
                f"on NumPy and on {model_backend(framework).name}, the values of {trial.name} on {problem.name} are {agreement}. Frameworks store layers in "
                f"other orders and shapes: find rows and columns by the axes of oracle.groups, add up without regard to order, and draw "
                f"random numbers with invariant_sharpness.prng"
            )
            raise CheckFailedError(msg, {"change": agreement.change})
    return {"largest_change": max(changes)}


def _oracle(problem: ReluProblem, framework: str) -> CurvatureOracle:
    try:
        return problem.oracle(framework)
    except ImportError as error:
        msg = f"{model_backend(framework).name} is not installed: {error}"
        raise CheckSkippedError(msg) from error
