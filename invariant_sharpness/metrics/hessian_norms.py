"""Raw measures of the Hessian: trace, spectral norm and Frobenius norm.

They obey a law under a rescaling of the parameters by D: the Hessian becomes
:math:`D^{-1} H D^{-1}`. None of them is invariant.
"""

from __future__ import annotations

from dataclasses import replace
from math import fsum, hypot

import numpy as np

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, SamplingError
from invariant_sharpness.estimators.hessian_diagonals import certified_diagonal, hessian_diagonal
from invariant_sharpness.estimators.hutchinson import trace_samples
from invariant_sharpness.estimators.lanczos import largest_magnitude_eigenvalue
from invariant_sharpness.estimators.squared_norms import column_squared_norms, squared_norm_samples
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle
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
    oracle: CurvatureOracle, *, probes: int = 64, seed: int = 0, diagonal: HessianDiagonal | None = None
) -> Estimate:
    r"""Trace of the Hessian, :math:`\operatorname{tr} H = \sum_i \partial^2 L / \partial\theta_i^2`.

    All parameters count, biases too. Groups whose diagonal is certified contribute its sum; for the others the trace is
    estimated by Hutchinson's method in raw coordinates.

    Transformation law: :math:`\operatorname{tr}' = \sum_k \alpha_k^{-2} \operatorname{tr} H_{kk}` if block k is
    multiplied by :math:`\alpha_k`. Invariant to no rescaling.

    Cost: at most one backward pass per output, and ``probes`` products if a group is not exact. Groups that are
    exact in ``diagonal`` are taken from there.
    Source: Tsuzuku et al. (2019), (5), which drops a factor: the expected loss increase under
    unit Gaussian noise is half the trace. Hutchinson (1989).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    probes
        Number of Hessian-vector products for the groups whose diagonal is not exact. With 64, errors are mostly within a tenth.
    seed
        Seed of the probes.
    diagonal
        The diagonal of the Hessian, if it is known.

    Returns
    -------
    Estimate
        The trace, exact where every diagonal is, with the contributions of the parameter groups.

    Raises
    ------
    ValueError
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
    known = _known_part(oracle, diagonal, probes, seed)
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
        method=methods_in_words([share.method for share in shares.values()], probes),
        standard_error=error,
        degrees_of_freedom=freedom,
        per_group={g.name: shares[g.name] for g in oracle.groups},
        notes=(_DROWNED,) if error is not None and 2 * error > abs(value) else (),
    )


@metric(
    symbol=r"\|H\|_2",
    equation=r"\max_i |\lambda_i(H)|",
    summary="Largest curvature in any direction.",
    needs="Hessian-vector products",
    cost="one product per Lanczos step: 1.3 to 3.1 gradients each, at most 200 steps",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It can be made as large as one likes by rescaling a layer, and it falls towards zero under "
        "cross-entropy when the outputs grow. The residual proves that some eigenvalue is near the value, not "
        "that it is the largest; a start vector that is nearly orthogonal to the largest one delays the "
        "discovery. In single precision the residual cannot fall below about :math:`10^{-6}` of the value."
    ),
    reference="Yao, Gholami, Lei, Keutzer and Mahoney (2018)",
    default=True,
)
@renamed(steps="max_iterations")
def hessian_spectral_norm(
    oracle: CurvatureOracle, *, tolerance: float = 1e-6, max_iterations: int = 200, seed: int = 0
) -> Estimate:
    r"""Spectral norm of the Hessian, :math:`\|H\|_2 = \max_i |\lambda_i|`.

    Lanczos' method with full reorthogonalization. ``relative_gap`` is the residual relative to the value: an
    eigenvalue lies that close. It is not proven to be the extreme one, as with every Krylov method.

    Not invariant: Dinh et al. (2017) make it as large as they like without changing the function.
    Cost: one Hessian-vector product and one vector of memory per iteration, at most ``max_iterations``.
    Source: Yao et al. (2018); Lanczos (1950).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    tolerance
        Stop when the residual is at most ``tolerance`` times the value. In single precision rounding
        sets a floor near 1e-6.
    max_iterations
        Largest number of Lanczos iterations. Trained networks mostly need some dozens.
    seed
        Seed of the start vector.

    Returns
    -------
    Estimate
        The norm, with the relative residual of its eigenpair as ``relative_gap``.

    Examples
    --------
    The largest eigenvalue of diag(1, 2) is 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.hessian_spectral_norm(oracle).value, 9)
    2.0
    """
    result = largest_magnitude_eigenvalue(oracle, tolerance=tolerance, max_iterations=max_iterations, seed=seed)
    magnitude = abs(result.value)
    return Estimate(
        name="hessian_spectral_norm",
        value=magnitude,
        method=f"Lanczos, {result.steps} steps",
        certificate=result.residual / magnitude if magnitude > 0 else 0.0,
        converged=result.converged,
    )


@metric(
    symbol=r"\|H\|_F",
    equation=r"\Bigl(\sum_i \lambda_i(H)^2\Bigr)^{1/2}",
    summary="Root of the sum of the squared eigenvalues of the Hessian.",
    needs="Hessian-vector products",
    cost="64 products, 80 to 200 gradients",
    invariances={"output_shift"},
    pitfalls=(
        "It can be made as large as one likes by rescaling a layer, and it falls towards zero under "
        "cross-entropy when the outputs grow. Half of the products go into a Krylov space, which takes the "
        "few large eigenvalues of a network out of what is sampled; where the memory limit leaves no room for "
        "it, all of them are draws, and the value scatters by some percent."
    ),
    reference="Dinh, Pascanu, Bengio and Bengio (2017)",
    up_to_error={"permutation"},
)
def hessian_frobenius_norm(oracle: CurvatureOracle, *, probes: int = 64, seed: int = 0) -> Estimate:
    r"""Frobenius norm of the Hessian, :math:`\|H\|_F = (\sum_i \lambda_i^2)^{1/2}`.

    Half of the products make a Krylov space, on which the norm is known; random signs probe what is left
    (:mod:`~invariant_sharpness.estimators.squared_norms`). The standard error is to first order. From all columns,
    exactly, if there are no more parameters than ``probes``. Not invariant.

    Cost: ``probes`` Hessian-vector products. Memory: half as many vectors, but no more than half of the memory limit; where it
    cuts the space, more of the products are draws and the error is larger.
    Source: Dinh et al. (2017), in their proof; Hutchinson (1989); Meyer, Musco, Musco and Woodruff (2021) for the split.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    probes
        Number of Hessian-vector products, one half for the Krylov space and one for the draws.
    seed
        Seed of both.

    Returns
    -------
    Estimate
        The norm, with the standard error of the draws.

    Raises
    ------
    ValueError
        If ``probes`` is less than 2.

    Examples
    --------
    The norm of diag(1, 2) is the root of 1 + 4:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.hessian_frobenius_norm(oracle).value, 6)
    2.236068
    """
    require_probes(probes, 2)
    size = sum(group.size for group in oracle.groups)
    if size <= probes:
        exact = float(np.sqrt(column_squared_norms(oracle).sum()))
        return Estimate("hessian_frobenius_norm", exact, "exact (columns)")
    squares = squared_norm_samples(oracle, probes, seed)
    value = float(np.sqrt(squares.mean()))
    return Estimate(
        name="hessian_frobenius_norm",
        value=value,
        method=f"{probes - len(squares)} Krylov directions, {len(squares)} probes",
        standard_error=_standard_error(squares) / (2 * value) if value > 0 else 0.0,
        degrees_of_freedom=len(squares) - 1,
    )


_CERTIFIED = ("exact", "exact (columns)", "sampled outputs")
"""What the trace takes from a diagonal; for all other groups it has probes of its own."""


def _known_part(oracle: CurvatureOracle, diagonal: HessianDiagonal | None, probes: int, seed: int) -> HessianDiagonal:
    """Return the groups whose diagonal is exact or from sampled outputs; all groups, if the rest has few enough columns."""
    given = None
    if diagonal is not None:
        kept = {name: group for name, group in diagonal.groups.items() if group.method in _CERTIFIED}
        given = replace(diagonal, groups=kept)
    known = certified_diagonal(oracle, probes=probes, seed=seed, diagonal=given)
    rest = sum(group.size for group in oracle.groups if group.name not in known.groups)
    return hessian_diagonal(oracle, probes=max(probes, 4), seed=seed, diagonal=known) if rest <= probes else known


def _known_share(known: HessianDiagonal, name: str) -> GroupEstimate:
    group = known[name]
    error = known.standard_error({name: np.ones_like(group.values)})
    return GroupEstimate(float(group.values.sum()), group.method, error)


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
