"""Certify metrics on a model: apply the model's own symmetries, and see what stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import ModelError
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.evaluation.door import AnyMetric, as_metrics, require_different_names
from invariant_sharpness.evaluation.measuring import Measurement, Result
from invariant_sharpness.metrics import Metric
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.results.agreement import same_draws
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.records import Record
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.symmetries import Symmetries, Symmetry, Transformation, find_symmetries, transformations_of
from invariant_sharpness.symmetries.invariances import covers

_MOST_UNKNOWNS = 1000
"""Of the search: a certificate takes a few of the rescalings, and the time to know that none is missing would not change it."""


@checked_numbers
def certify(
    oracle: CurvatureOracle,
    metrics: AnyMetric | Iterable[AnyMetric] | None = None,
    *,
    symmetries: Symmetry | Sequence[Symmetry] | None = None,
    claims: Mapping[str, Collection[str]] | None = None,
    seed: int = 0,
) -> Certificate:
    """Test on a model of your own whether metrics have the invariances that they declare.

    The symmetries of the model are found, or taken; each has a few finite transformations, by powers of two first, then general ones, then
    extreme ones. For each of them the loss is compared before and after, since what changes it is no symmetry, and every metric
    is evaluated at both points with the same seed. A metric that cannot be measured is reported as such, beside the others.

    Parameters
    ----------
    oracle
        The mean loss of the model, whose parameters stay as they are.
    metrics
        A metric or a list of metrics, as for :func:`measure`. Default: all that are not marked as costly.
    symmetries
        From :func:`find_symmetries`, or ready-made ones such as :class:`HeadMixing`, or several. Default: all rescalings that are found,
        of single units and of whole layers.
    claims
        Invariances of each callable by its name, in the words of the declarations: ``{"my_metric": {"row_column"}}``.
    seed
        Seed of the transformations and the metrics.

    Returns
    -------
    Certificate
        Verdicts with figures; ``certificate.failed`` lists the invariances that do not hold. Cost: every metric once, and
        once more for each transformation (three for each found symmetry), and that of finding the symmetries.

    Raises
    ------
    ArgumentError
        If a metric is unknown, two have the same name, or the seed is none.
    TypeError
        If one of the metrics is no metric.
    ModelError
        If no symmetry is found, as in networks with smooth activations, and none is given.
    MissingCapabilityError
        If symmetries have to be found and the oracle does not show its outputs.

    Examples
    --------
    The trace of the Hessian moves when a hidden unit is rescaled, and normalized sharpness, which is said to stay, does:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[1.0, 2.0]]), np.array([[3.0]])))
    >>> oracle = ish.oracle(network, (np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([[8.0], [13.0]])), loss="mse")
    >>> certificate = ish.certify(oracle, ["hessian_trace", "normalized_sharpness"])
    >>> sorted({(record.metric, record.verdict) for record in certificate})
    [('hessian_trace', 'moves'), ('normalized_sharpness', 'holds')]
    """
    chosen = as_metrics(metrics, claims or {})
    require_different_names(chosen)
    comparison = _Comparison(oracle, chosen, seed)
    families = _families(oracle, symmetries, seed)
    moves = [
        (family.kind, name, move)
        for family in families
        for name, move in transformations_of(family, oracle, seed).items()
    ]
    records = [record for one in track(moves, "certificate", len(moves)) for record in comparison.records(*one)]
    order = {metric.name: number for number, metric in enumerate(chosen)}
    records.sort(key=lambda record: order[record.metric])
    return Certificate(tuple(records), _in_words(families), type(oracle).__name__, seed, comparison.signature)


class _Comparison:
    """The results at the model's parameters, with which those at transformed parameters are compared."""

    def __init__(self, oracle: CurvatureOracle, metrics: list[Metric[...]], seed: int) -> None:
        self.metrics, self.seed = metrics, seed
        self._start = Measurement(oracle, seed=seed)
        self._before = [self._start.result(metric) for metric in metrics]

    @property
    def signature(self) -> str:
        """The metrics with their versions, and what else the numbers depend on beside the model."""
        return f"{', '.join(metric.definition for metric in self.metrics)}; {self._start.conditions}"

    def records(self, kind: str, name: str, move: Transformation) -> Iterator[Record]:
        """Apply one transformation and compare each metric before and after."""
        oracle = self._start.oracle
        end = Measurement(Moved(oracle, move.apply(oracle.parameters)), seed=self.seed)
        loss_change = abs(end.loss - self._start.loss) / abs(self._start.loss) if self._start.loss else 0.0
        for metric, before in zip(self.metrics, self._before, strict=True):
            results = (before, end.result(metric))
            yield Record(
                metric=metric.name,
                kind=kind,
                move=name,
                claimed=covers(metric.invariances, kind),
                before=_value(results[0]),
                after=_value(results[1]),
                tolerance=self._tolerance(results),
                loss_change=loss_change,
                is_symmetry=loss_change <= machine_epsilon(oracle) ** (1 / 2),
                reason=next(filter(None, map(_no_value, results)), ""),
            )

    def _tolerance(self, results: tuple[Result, Result]) -> float:
        before, after = results
        if isinstance(before, Estimate) and isinstance(after, Estimate):
            return same_draws(before, after, machine_epsilon(self._start.oracle)).tolerance
        return 0.0


def _families(oracle: CurvatureOracle, symmetries: Symmetry | Sequence[Symmetry] | None, seed: int) -> list[Symmetry]:
    """List the symmetries; a collection of found ones is one of them, though it is a sequence of generators."""
    if symmetries is None:
        found = find_symmetries(oracle, seed=seed, max_unknowns=_MOST_UNKNOWNS)
        layers = found.by_layer()
        families: list[Symmetry] = [family for family in (found, layers) if len(family)]
    elif isinstance(symmetries, Sequence) and not isinstance(symmetries, Symmetries):
        families = list(symmetries)
    else:
        families = [symmetries]
    if not families:
        msg = (
            "no rescaling leaves this network alone, so there is nothing to certify with: smooth activations such as tanh and GELU have no "
            "such symmetry. Give others that you know, such as symmetries=[HeadMixing(...), UnitPermutation(...)]"
        )
        raise ModelError(msg)
    return families


def _in_words(families: Sequence[Symmetry]) -> str:
    return "\n".join(str(family) for family in families)


def _no_value(result: Result) -> str:
    """Say why there is no value that can be compared, if so: where an iteration has not ended, rounding decides where it stands."""
    if not isinstance(result, Estimate):
        return str(result)
    return "" if result.converged else f"not converged ({result.method})"


def _value(result: Result) -> float:
    return result.value if isinstance(result, Estimate) else float("nan")
