"""Certify metrics on a model: apply the model's own symmetries, and see what stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import ModelError
from invariant_sharpness.evaluation.candidates import Candidate, NumberMetric, Outcome, candidates, outcomes
from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.results.agreement import same_draws
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.records import Finding
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.symmetries import Move, Symmetries, Symmetry, find_symmetries
from invariant_sharpness.symmetries.claims import covers


def certify(
    oracle: CurvatureOracle,
    metrics: str | Iterable[str | NumberMetric] | None = None,
    *,
    symmetries: Symmetry | Sequence[Symmetry] | None = None,
    claims: Mapping[str, Collection[str]] | None = None,
    seed: int = 0,
) -> Certificate:
    """Test on a model of your own what metrics claim.

    The symmetries of the model are found, or taken; each makes a few finite moves, powers of two first, then general ones, then extreme ones.
    For each move the loss is compared before and after, since a move that changes it is no symmetry, and every metric
    is evaluated at both places with the same seed.

    Parameters
    ----------
    oracle
        Of the model; it stays where it is.
    metrics
        A name, or a list of names and callables ``oracle -> number or Estimate``. Default: all metrics that are not marked as costly.
    symmetries
        From :func:`find_symmetries`, or ready-made ones such as :class:`HeadMixing`, or several. Default: all rescalings that are found,
        of single units and of whole layers.
    claims
        What each callable is said to survive, by its name, in the words of the declarations: ``{"my_metric": {"row_column"}}``.
    seed
        Of the moves and the metrics.

    Returns
    -------
    Certificate
        Verdicts with figures; ``certificate.failed`` lists the claims that do not hold. Cost: every metric once, and
        once more for each move (three for each found symmetry), and that of finding the symmetries.

    Raises
    ------
    ValueError
        If a metric is unknown, or two have the same name.
    ModelError
        If no symmetry is found, as in networks with smooth activations, and none is given.
    MissingCapabilityError
        If symmetries have to be found and the oracle does not show its outputs.
    """
    trial = _Trial(oracle, candidates(metrics, claims or {}), seed)
    families = _families(oracle, symmetries, seed)
    moves = [(family.kind, name, move) for family in families for name, move in family.moves(seed).items()]
    findings = [finding for one in track(moves, "certificate", len(moves)) for finding in trial.findings(*one)]
    order = {one.name: number for number, one in enumerate(trial.asked)}
    findings.sort(key=lambda finding: order[finding.metric])
    return Certificate(tuple(findings), _in_words(families), type(oracle).__name__, seed)


class _Trial:
    """The metrics where the model is, against which they are compared elsewhere."""

    def __init__(self, oracle: CurvatureOracle, asked: list[Candidate], seed: int) -> None:
        self.oracle, self.asked, self.seed = oracle, asked, seed
        self._loss = oracle.loss(oracle.parameters)
        self._before = outcomes(asked, oracle, seed)

    def findings(self, kind: str, name: str, move: Move) -> Iterator[Finding]:
        """One for each metric."""
        there = Moved(self.oracle, move.apply(self.oracle.parameters))
        loss_change = abs(there.loss(there.parameters) - self._loss) / abs(self._loss) if self._loss else 0.0
        after = outcomes(self.asked, there, self.seed)
        for one in self.asked:
            values = (self._before[one.name], after[one.name])
            yield Finding(
                metric=one.name,
                kind=kind,
                move=name,
                claimed=covers(one.invariances, kind),
                before=_value(values[0]),
                after=_value(values[1]),
                tolerance=self._tolerance(values),
                loss_change=loss_change,
                is_symmetry=loss_change <= machine_epsilon(self.oracle) ** (1 / 2),
                reason=next(filter(None, map(_no_value, values)), ""),
            )

    def _tolerance(self, values: tuple[Outcome, Outcome]) -> float:
        before, after = values
        if isinstance(before, Estimate) and isinstance(after, Estimate):
            return same_draws(before, after, machine_epsilon(self.oracle)).tolerance
        return 0.0


def _families(oracle: CurvatureOracle, symmetries: Symmetry | Sequence[Symmetry] | None, seed: int) -> list[Symmetry]:
    """A collection of found symmetries is one family, though it is a sequence of generators."""
    if symmetries is None:
        found = find_symmetries(oracle, seed=seed)
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


def _no_value(outcome: Outcome) -> str:
    """Why there is none that can be compared, if so: where an iteration has not ended, rounding decides where it stands."""
    if not isinstance(outcome, Estimate):
        return str(outcome)
    return "" if outcome.converged else f"not converged ({outcome.method})"


def _value(outcome: Outcome) -> float:
    return outcome.value if isinstance(outcome, Estimate) else float("nan")
