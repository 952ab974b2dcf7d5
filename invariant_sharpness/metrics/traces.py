"""The trace of the Hessian: the sum of its diagonal, exactly or from draws at layers, and Hutchinson's method where there are no layers."""

from __future__ import annotations

from dataclasses import replace
from math import fsum, hypot

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.affine_groups import certified_diagonal, has_gauss_newton_diagonal
from invariant_sharpness.estimators.column_diagonal import affords_columns
from invariant_sharpness.estimators.diagonal_plan import GRADIENTS_BEFOREHAND, is_large
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, SamplingError, planned
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.estimators.hutchinson import trace_samples
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle, ResidualDiagonalOracle, capability
from invariant_sharpness.results.estimate import Estimate, GroupEstimate, methods_in_words

_DROWNED = (
    "the probes scatter by more than the trace is large: the error falls with the root of their number, or take invariant_sharpness."
    "GaussNewton(oracle), whose trace has no terms that cancel"
)


@metric(
    symbol=r"\operatorname{tr} H",
    equation=r"\sum_i \frac{\partial^2 L}{\partial\theta_i^2}",
    summary="Trace of the Hessian of the mean loss.",
    needs="Hessian diagonal",
    cost=COST_OF_DIAGONAL,
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It can be made as large as one likes by rescaling a layer, and it falls towards zero under "
        "cross-entropy when training goes on and the outputs grow. It can be negative away from a minimum, so "
        "it is no norm."
    ),
    reference="Tsuzuku, Sato and Sugiyama (2019), (5)",
    default=True,
)
def hessian_trace(
    oracle: CurvatureOracle,
    *,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Trace of the Hessian, :math:`\operatorname{tr} H = \sum_i \partial^2 L / \partial\theta_i^2`.

    All parameters count, biases too. Each group contributes the sum of its diagonal: exactly, or from draws at layers, whose noise falls with the
    number of examples as well. Where the oracle cannot tell its layers apart, Hutchinson's method in raw coordinates estimates the trace of what is not
    exact.

    Transformation law: :math:`\operatorname{tr}' = \sum_k \alpha_k^{-2} \operatorname{tr} H_{kk}` if block k is
    multiplied by :math:`\alpha_k`. Invariant to no rescaling.

    Cost: at most one backward pass per output, and that of ``probes`` products if a group is not exact. Groups that are
    known in ``diagonal`` are taken from there.
    Source: Tsuzuku et al. (2019), (5), which drops a factor: the expected loss increase under
    unit Gaussian noise is half the trace. Hutchinson (1989).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    probes
        Number of Hessian-vector products for the groups whose diagonal is not exact, or of what costs as much.
    budget
        What everything may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`, and probed by as many
        products as fit if no diagonal does.
    seed
        Seed of the draws.
    diagonal
        The diagonal of the Hessian, if it is known.

    Returns
    -------
    Estimate
        The trace, exact where every diagonal is, with the contributions of the parameter groups.

    Raises
    ------
    ArgumentError
        If ``probes`` is less than 2.

    Examples
    --------
    The Hessian diag(1, 2) has the trace 3:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> ish.hessian_trace(oracle).value
    3.0
    """
    require_probes(probes, 2)
    known, probes = _known_part(oracle, diagonal, probes, budget, seed)
    sampled = frozenset(group.name for group in oracle.groups) - known.groups.keys()
    draws = trace_samples(oracle, sampled, probes, seed) if sampled else {}
    shares = {name: _known_share(known, name) for name in known.groups}
    shares |= {n: GroupEstimate(float(d.mean()), "probes", _standard_error(d), known.note(n)) for n, d in draws.items()}
    error_of_known = known.sampling_error({name: np.ones_like(group.values) for name, group in known.groups.items()})
    error, freedom = _joined(error_of_known, np.sum(list(draws.values()), axis=0) if draws else None)
    value = fsum(share.value for share in shares.values())
    return Estimate(
        name="hessian_trace",
        value=value,
        method=methods_in_words([share.method for share in shares.values()], known.plan or probes),
        standard_error=error,
        degrees_of_freedom=freedom,
        per_group={g.name: shares[g.name] for g in oracle.groups},
        notes=(*((_DROWNED,) if error is not None and 2 * error > abs(value) else ()), *planned(known)),
    )


_PROBED = ("probes", "XDiag")
"""What the trace does not take from a diagonal: it has probes of its own, in raw coordinates."""


_GRADIENTS_PER_PROBE, _LEAST_PROBES = 3.0, 4
"""What a product costs that is multiplied alone, as of large networks, and how many tell a trace with its error."""

_GRADIENTS_OF_SCALES = 6.0
"""What it costs a large network to find the scales of its units, for the diagonal that was refused."""


def _known_part(
    oracle: CurvatureOracle, diagonal: HessianDiagonal | None, probes: int, budget: float | None, seed: int
) -> tuple[HessianDiagonal, int]:
    """Return all groups if the oracle tells its layers apart, or the rest has few enough columns, and else those that pass the affine test.

    No group if a budget is too small for a diagonal. Beside it, the number of probes for the others.
    """
    given = None
    if diagonal is not None:
        kept = {name: group for name, group in diagonal.groups.items() if group.method not in _PROBED}
        given = replace(diagonal, groups=kept)
    layers = capability(oracle, ResidualDiagonalOracle) is not None and has_gauss_newton_diagonal(oracle)
    if layers or budget is not None:
        try:
            return hessian_diagonal(oracle, probes=max(probes, 4), budget=budget, seed=seed, diagonal=given), probes
        except ArgumentError:
            beforehand = GRADIENTS_BEFOREHAND + (_GRADIENTS_OF_SCALES if is_large(oracle) else 0.0)
            affordable = 0 if budget is None else int((budget - beforehand) / _GRADIENTS_PER_PROBE)
            if affordable < _LEAST_PROBES:
                raise
            return HessianDiagonal({}), affordable
    known = certified_diagonal(oracle, probes=probes, seed=seed, diagonal=given)
    rest = sum(group.size for group in oracle.groups if group.name not in known.groups)
    few = affords_columns(oracle, rest, probes)
    return hessian_diagonal(oracle, probes=max(probes, 4), seed=seed, diagonal=known) if few else known, probes


def _known_share(known: HessianDiagonal, name: str) -> GroupEstimate:
    group = known[name]
    error = known.standard_error({name: np.ones_like(group.values)})
    return GroupEstimate(float(group.values.sum()), group.method, error, known.note(name))


def _joined(sampled: SamplingError | None, draws: np.ndarray | None) -> tuple[float | None, int | None]:
    """Compute the standard error of a sum of two independent parts, and its degrees of freedom, the fewer of the two."""
    parts = [] if sampled is None else [sampled]
    if draws is not None:
        parts.append(SamplingError(_standard_error(draws), len(draws) - 1))
    if not parts:
        return None, None
    return hypot(*(part.standard_error for part in parts)), min(part.degrees_of_freedom for part in parts)


def _standard_error(draws: np.ndarray) -> float:
    return float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
