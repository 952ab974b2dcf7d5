"""The largest curvature in the unit ball of an optimizer's norm (Islamov et al. 2026)."""

from __future__ import annotations

from math import inf
from typing import Literal

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.quadratic_ascent import (
    QuadraticForm,
    dense_hessian,
    largest_in_ball,
    largest_in_box,
)
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Bracket, Estimate

_FEW = 16
"""With so many parameters all signs are looked at."""


@metric(
    symbol=r"S_{\|\cdot\|}",
    equation=r"\max_{\|d\| \le 1} d^T H\, d",
    summary="Largest curvature among the steps of unit length in the norm of an optimizer.",
    needs="Hessian-vector products",
    cost="some hundred products; the largest eigenvalue alone for the Euclidean norm",
    invariances={"output_shift"},
    pitfalls=(
        "For the norms of sign descent and of Muon the maximum is searched for, not proven, beyond 16 parameters: the value is a lower bound. "
        "Values in different norms have different units; each belongs to the optimizer of that norm, whose learning rate it limits."
    ),
    reference="Islamov, Crawshaw, Cohen and Gower (2026)",
    up_to_error={"permutation"},
)
def non_euclidean_sharpness(
    oracle: CurvatureOracle,
    *,
    norm: Literal["linf", "spectral", "l2"] = "linf",
    starts: int = 4,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Estimate:
    r"""Find the largest curvature in the unit ball of a norm, :math:`\max_{\|d\| \le 1} d^T H d`.

    It takes for steepest descent in that norm, :math:`\theta \leftarrow \theta - \eta \|g\|_* u` with
    :math:`u = \operatorname{argmax}_{\|u\| \le 1} \langle g, u \rangle`, the place of the largest eigenvalue: it is at 2 / learning rate at the edge of stability.

    - ``"l2"``, gradient descent: the largest eigenvalue, or zero if that is negative.
    - ``"linf"``, sign descent: all entries between -1 and 1. Up to 16 parameters all signs are looked at, which is exact (an entry of
      negative curvature may lie inside); of a diagonal Hessian it is the sum of the positive entries.
    - ``"spectral"``, as Muon: all singular values of every weight at most 1, where rows count output units. Any other group is a
      matrix of one column, whose singular value is its Euclidean norm.

    Where it is searched for, the value is the best of several ascents and so a **lower bound**; ``relative_gap`` is what first-order conditions leave
    open, :math:`2 \max_{\|u\| \le 1} \langle H d, u - d \rangle` over the value, which is zero at a local maximum.

    Not invariant; on ``Scaled(oracle, s)`` with an equivariant scale it is.
    Cost: the largest eigenvalue, and ``starts * max_iterations`` Hessian-vector products at most. Memory: as :func:`hessian_spectral_norm`.
    Source: Islamov, Crawshaw, Cohen and Gower (2026), arXiv:2603.05002.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    norm
        ``"linf"``, ``"spectral"`` or ``"l2"``.
    starts
        Number of ascents: one from the leading eigenvector, all others from random signs.
    max_iterations
        Largest number of iterations of each ascent.
    tolerance
        An ascent has converged if ``relative_gap`` is at most this; the relative residual of an eigenvalue.
    seed
        Seed of the random signs, and of the eigenvector's start.

    Returns
    -------
    Estimate
        The value: exact, with the residual of an eigenvalue, or with a bracket that is open above.

    Raises
    ------
    ArgumentError
        If the norm is not known, or there is no start.

    Examples
    --------
    At (1, 1) and (-1, -1) both entries of the Hessian and the two beside the diagonal count, 1 + 2 + 2 * 0.5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.array([[1.0, 0.5], [0.5, 2.0]]), np.array([[3.0, 4.0]]))
    >>> print(ish.non_euclidean_sharpness(oracle))
    non_euclidean_sharpness = 4 (exact; linf, all signs)
    """
    if starts < 1:
        msg = f"starts={starts}, but a search needs at least one ascent"
        raise ArgumentError(msg)
    if norm == "l2":
        return _euclidean(oracle, tolerance, seed)
    if norm == "linf" and sum(group.size for group in oracle.groups) <= _FEW:
        exact = largest_in_box(dense_hessian(oracle))
        if exact is not None:
            return Estimate("non_euclidean_sharpness", exact, "linf, all signs")
    found = largest_in_ball(QuadraticForm(oracle, norm, max_iterations, tolerance), starts, seed)
    return Estimate(
        name="non_euclidean_sharpness",
        value=found.value,
        method=f"{norm}, ascents from {starts} starts",
        certificate=found.relative_gap,
        converged=found.converged,
        bracket=Bracket(found.value, inf),
    )


def _euclidean(oracle: CurvatureOracle, tolerance: float, seed: int) -> Estimate:
    pairs = eigenpairs(oracle, largest=1, smallest=0, tolerance=tolerance, seed=seed)
    value, residual = max(pairs.largest[0].value, 0.0), pairs.largest[0].residual
    return Estimate(
        name="non_euclidean_sharpness",
        value=value,
        method=f"l2, Lanczos, {pairs.products} products",
        certificate=residual / value if value > 0 else 0.0,
        converged=pairs.converged,
    )
