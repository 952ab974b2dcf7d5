"""A metric on trial: what it is said to survive, and the networks that it is tested on."""

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
from invariant_sharpness.symmetries.claims import covers
from invariant_sharpness.testing.results import CheckFailedError, CheckSkippedError
from invariant_sharpness.testing.specimens import Specimen


class Trial:
    """What every check of a metric is given.

    Parameters
    ----------
    metric
        The metric, with its name and its invariances.
    make_specimens
        Builds the networks, when they are first asked for.
    framework
        The backend whose models the metric is written for; empty if it takes any oracle.
    seed
        Of the moves, and of metrics of the library.
    """

    def __init__(
        self,
        metric: Metric[...],
        make_specimens: Callable[[], Sequence[Specimen]],
        framework: str,
        seed: int,
    ) -> None:
        self.metric, self.framework, self.seed = metric, framework, seed
        self._make_specimens = make_specimens
        self._findings: dict[tuple[int, str], list[Finding]] = {}

    @property
    def name(self) -> str:
        """Of the metric."""
        return self.metric.name

    @cached_property
    def specimens(self) -> list[Specimen]:
        """The networks."""
        return list(self._make_specimens())

    def claims(self, kind: str) -> bool:
        """Whether the metric is said to survive symmetries of this kind."""
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
        outcome = Measurement(oracle, seed=self.seed).result(self.metric)
        if isinstance(outcome, MissingCapabilityError):
            raise CheckSkippedError(str(outcome)) from outcome
        if isinstance(outcome, InvariantSharpnessError):
            msg = f"there is no value: {outcome}"
            raise CheckFailedError(msg) from outcome
        return outcome

    def findings(self, specimen: Specimen, kind: str) -> list[Finding]:
        """What the symmetries of this kind do to the metric; nothing if the network has none."""
        key = (id(specimen), kind)
        if key not in self._findings:
            self.value(specimen.oracle)
            self._findings[key] = self._certified(specimen, kind)
        return self._findings[key]

    def _certified(self, specimen: Specimen, kind: str) -> list[Finding]:
        families = specimen.families(kind)
        if not families:
            return []
        return list(certify(specimen.oracle, [self.metric], symmetries=families, seed=self.seed))


def nothing_to_see(*kinds: str) -> CheckSkippedError:
    """The error if no network has a symmetry of one of these kinds."""
    words = " or ".join(map(repr, kinds))
    msg = (
        f"no network here has a symmetry of the kind {words}: give one that has, as Specimen(oracle, symmetries=[...])"
    )
    return CheckSkippedError(msg)
