"""Norms of the Hessian: spectral and Frobenius.

They obey a law under a rescaling of the parameters by D: the Hessian becomes
:math:`D^{-1} H D^{-1}`. Neither is invariant.
"""

from __future__ import annotations

import numpy as np

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.column_diagonal import affords_columns
from invariant_sharpness.estimators.lanczos import largest_magnitude_eigenvalue
from invariant_sharpness.estimators.squared_norms import column_squared_norms, squared_norm_samples
from invariant_sharpness.estimators.warm_starts import WarmStart
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate


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
    oracle: CurvatureOracle,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    seed: int = 0,
    start: WarmStart | None = None,
) -> Estimate:
    r"""Spectral norm of the Hessian, :math:`\|H\|_2 = \max_i |\lambda_i|`.

    Lanczos' method with full reorthogonalization; without it, where the memory limit leaves room for few vectors. ``relative_gap`` is
    the residual relative to the value: an eigenvalue lies that close. It is not proven to be the extreme one, as with every Krylov method.

    Not invariant: Dinh et al. (2017) make it as large as they like without changing the function.
    Cost: one Hessian-vector product and one vector of memory per iteration, at most ``max_iterations``; four vectors in all where the
    memory limit leaves room for fewer than 64 beside as many others, and nothing asks for the eigenvector by ``start``.
    Source: Yao et al. (2018); Lanczos (1950); Paige (1980) for what rounding does without reorthogonalization.

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
    start
        The eigenvector of an earlier call, near which this one begins and in whose place it leaves its own: in the course of a training fewer products reach
        the tolerance. By default a random vector.

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
    result = largest_magnitude_eigenvalue(
        oracle, tolerance=tolerance, max_iterations=max_iterations, seed=seed, start=start
    )
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
    exactly, if there are no more parameters than ``probes``, or at most 512 and so little data that all columns take a second. Not invariant.

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
    ArgumentError
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
    if affords_columns(oracle, sum(group.size for group in oracle.groups), probes):
        exact = float(np.sqrt(column_squared_norms(oracle).sum()))
        return Estimate("hessian_frobenius_norm", exact, "exact (all columns)")
    squares = squared_norm_samples(oracle, probes, seed)
    value = float(np.sqrt(squares.mean()))
    return Estimate(
        name="hessian_frobenius_norm",
        value=value,
        method=f"{probes - len(squares)} Krylov directions, {len(squares)} probes",
        standard_error=_standard_error(squares) / (2 * value) if value > 0 else 0.0,
        degrees_of_freedom=len(squares) - 1,
    )


def _standard_error(draws: np.ndarray) -> float:
    return float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
