"""A case: one metric on its test problems, what it declares there, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from invariant_sharpness.errors import InvariantSharpnessError, MissingCapabilityError
from invariant_sharpness.evaluation.certifying import certify
from invariant_sharpness.evaluation.measuring import Measurement
from invariant_sharpness.metrics import Metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.records import Finding
from invariant_sharpness.symmetries.invariances import covers
from invariant_sharpness.testing.problems import Problem
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError


class Case:
    """What every check of a metric is given: the metric, and the test problems.

    Parameters
    ----------
    metric
        The metric, with its name and its invariances.
    make_problems
        A function that builds the test problems; it is called when they are first asked for.
    framework
        The backend whose models the metric is written for; empty if it takes any oracle.
    seed
        Seed of the transformations, and of metrics that take one.
    """

    def __init__(
        self, metric: Metric[...], make_problems: Callable[[], Sequence[Problem]], framework: str, seed: int
    ) -> None:
        self.metric, self.framework, self.seed = metric, framework, seed
        self._make_problems = make_problems
        self._records: dict[tuple[int, str], list[Finding]] = {}

    @property
    def name(self) -> str:
        """The name of the metric."""
        return self.metric.name

    @cached_property
    def problems(self) -> list[Problem]:
        """The test problems."""
        return list(self._make_problems())

    def is_invariant_to(self, kind: str) -> bool:
        """Whether the metric is declared invariant under symmetries of this kind."""
        return covers(self.metric.invariances, kind)

    def value(self, oracle: CurvatureOracle) -> Estimate:
        """Measure.

        Raises
        ------
        CheckSkippedError
            If the oracle cannot do what the metric needs.
        CheckFailedError
            If there is no value for another reason.
        """
        result = Measurement(oracle, seed=self.seed).result(self.metric)
        if isinstance(result, MissingCapabilityError):
            raise CheckSkippedError(str(result)) from result
        if isinstance(result, InvariantSharpnessError):
            msg = f"there is no value: {result}"
            raise CheckFailedError(msg) from result
        return result

    def records(self, problem: Problem, kind: str) -> list[Finding]:
        """Certify the metric under the symmetries of this kind, once; no record if the network has none."""
        key = (id(problem), kind)
        if key not in self._records:
            self.value(problem.oracle)
            families = problem.families(kind)
            certified = certify(problem.oracle, [self.metric], symmetries=families, seed=self.seed) if families else []
            self._records[key] = list(certified)
        return self._records[key]


def no_symmetry(*kinds: str) -> CheckSkippedError:
    """Return the error that is raised if no network has a symmetry of one of these kinds."""
    words = " or ".join(map(repr, kinds))
    msg = f"no network here has a symmetry of the kind {words}: give one that has, as Problem(oracle, symmetries=[...])"
    return CheckSkippedError(msg)
