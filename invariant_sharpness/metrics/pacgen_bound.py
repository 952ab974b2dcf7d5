"""PACGen, the metric of Wang, Keskar, Xiong and Socher (2018)."""

from __future__ import annotations

from math import fsum, sqrt

import numpy as np

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, planned
from invariant_sharpness.estimators.hessian_diagonals import hessian_diagonal
from invariant_sharpness.estimators.lipschitz import half_widths, hessian_lipschitz_of_diagonal
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL, independent_groups
from invariant_sharpness.parameters.matrices import HostArray
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate, GroupEstimate


@metric(
    symbol=r"\Psi_{\gamma,\epsilon}",
    equation=(
        r"\sum_i \ln \Bigl[ (|\theta_i| + N_i) \max\Bigl( \sqrt{h_i + \rho \sqrt P N_i}, \frac{1}{N_i} \Bigr) \Bigr], "
        r"\qquad N_i = \gamma |\theta_i| + \epsilon"
    ),
    summary="How much less noise the parameters bear than a prior of their size allows, in nats.",
    needs="Hessian diagonal of all parameters, there and nearby",
    cost=f"five Hessian diagonals, each {COST_OF_DIAGONAL}",
    invariances=(),
    pitfalls=(
        "At the default widths almost all parameters of a network of usual size are saturated, and count the "
        "same whatever their curvature; a note says how many. Its widths have a fixed size, so it moves under "
        "every rescaling. A ReLU network has no Lipschitz constant of the Hessian; what stands in is the largest change at a "
        "few random corners, which are other ones for hidden units in another order."
    ),
    reference="Wang, Keskar, Xiong and Socher (2018)",
)
def pacgen(
    oracle: CurvatureOracle,
    *,
    gamma: float = 0.1,
    epsilon: float = 0.1,
    rho: float | None = None,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute PACGen, :math:`\Psi_{\gamma,\epsilon} = \sum_i \ln \bigl[ (|\theta_i| + N_i) \max\bigl( \sqrt{h_i + \rho \sqrt P N_i}, 1/N_i \bigr) \bigr]`.

    With :math:`N_i = \gamma |\theta_i| + \epsilon`, the number P of parameters, and a negative :math:`h_i + \rho\sqrt P N_i` taken as 0.
    It is a divergence: :math:`\Psi = \sum_i \ln(\tau_i / \sigma_i)` of a uniform posterior on :math:`[\theta_i - \sigma_i, \theta_i + \sigma_i]`,
    :math:`\sigma_i = \min\bigl( (h_i + \rho\sqrt P N_i)^{-1/2}, N_i \bigr)`, from a uniform prior on :math:`[-\tau_i, \tau_i]`,
    :math:`\tau_i = |\theta_i| + N_i`. See :func:`perturbation_levels`.

    Not invariant to any rescaling: :math:`\epsilon` has a fixed size, and :math:`\rho` does not transform. With
    :math:`\epsilon = \rho = 0` it is invariant to every diagonal rescaling, but then it tends to say nothing: wherever
    :math:`|\theta_i| \sqrt{h_i} < 1/\gamma` a parameter counts :math:`\ln\frac{1 + \gamma}{\gamma}`, whatever the network. A note says how many do.

    Cost: the Hessian diagonal of all parameters, and five times that for the default of ``rho``.
    Source: the authors' post on Wang, Keskar, Xiong and Socher (2018), with natural logarithms. From the bound in it follow
    :math:`\sigma_i^{-2} = h_i + \tfrac13 \rho\sqrt P N_i`: it drops the third, and in :math:`\sigma_i` also :math:`\sqrt P`.
    Here :math:`\Psi` is as printed.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    gamma, epsilon
        How wide the neighbourhood is; the post says nothing of their values.
    rho
        Lipschitz constant of the Hessian. Default: :func:`hessian_lipschitz_of_diagonal` in the same
        neighbourhood. The constant of the definition is ``hessian_lipschitz_of_operator(oracle).value``.
    probes
        Number of Hessian-vector products, or of samples of the outputs, where the diagonal is not exact.
    budget
        What all diagonals may cost in gradients, in the place of ``probes``, in equal shares: they are exact if that fits, see :func:`hessian_diagonal`.
    seed
        Seed of these draws.
    diagonal
        The diagonal of the Hessian, if it is known. Groups that it lacks are computed.

    Returns
    -------
    Estimate
        The divergence, with the contribution of each group.

    Raises
    ------
    ArgumentError
        If ``rho``, ``gamma`` or ``epsilon`` is negative, or the latter are both zero.

    Examples
    --------
    A weight of 2 with curvature 4 that may move by 1 bears noise of 1/2, a sixth of its reach of 2 + 1: the value is the logarithm of 6.

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(4 * np.eye(1), np.array([[2.0]]))
    >>> round(ish.pacgen(oracle, gamma=0.0, epsilon=1.0, rho=0.0).value, 6)
    1.791759
    """
    widths = oracle.to_numpy(half_widths(oracle, gamma, epsilon))
    known = None if diagonal is None else independent_groups(diagonal)
    share = None if budget is None else budget / (1 if rho is not None else 1 + _CORNERS)
    curvature = hessian_diagonal(oracle, probes=probes, budget=share, seed=seed, diagonal=known)
    if rho is None:
        rho = hessian_lipschitz_of_diagonal(
            oracle,
            gamma=gamma,
            epsilon=epsilon,
            draws=_CORNERS,
            probes=probes,
            budget=budget,
            seed=seed,
            diagonal=curvature,
        ).value
    sizes = oracle.to_numpy(abs(oracle.parameters))
    count = sum(group.size for group in oracle.groups)
    levels = {n: perturbation_levels(curvature[n].values, w, rho=rho, parameters=count) for n, w in widths.items()}
    shares = {n: _divergence(sizes[n], widths[n], level, gamma) for n, level in levels.items()}
    saturated = sum(int(np.sum(level == widths[n])) for n, level in levels.items())
    return Estimate(
        name="pacgen",
        value=fsum(shares.values()),
        method=f"{curvature.method(frozenset(levels))}, rho = {rho:.4g}",
        per_group={n: GroupEstimate(s, curvature[n].method, note=curvature.note(n)) for n, s in shares.items()},
        notes=(*_notes(saturated, count, curvature), *planned(curvature)),
    )


_CORNERS = 4
"""At so many other points the diagonal says how fast it changes."""


def perturbation_levels(curvature: HostArray, widths: HostArray, *, rho: float, parameters: int) -> HostArray:
    r"""Compute how much noise each parameter bears, :math:`\sigma_i = \min\bigl( (h_i + \rho \sqrt P N_i)^{-1/2}, N_i \bigr)`.

    Parameters
    ----------
    curvature
        :math:`h_i`, the diagonal of the Hessian.
    widths
        :math:`N_i`, how far each parameter may move.
    rho
        Lipschitz constant of the Hessian.
    parameters
        P, the number of all parameters.

    Returns
    -------
    ndarray
        The levels, in the shape of the curvature.

    Raises
    ------
    ArgumentError
        If ``rho`` is negative.

    Examples
    --------
    Where there is no curvature, a parameter bears as much as it may move:

    >>> import numpy as np
    >>> from invariant_sharpness.metrics.pacgen_bound import perturbation_levels
    >>> perturbation_levels(np.array([4.0, 0.0]), np.array([1.0, 1.0]), rho=0.0, parameters=2)
    array([0.5, 1. ])
    """
    if not rho >= 0:
        msg = f"rho={rho}, but a Lipschitz constant is not negative"
        raise ArgumentError(msg)
    roots = np.sqrt(np.clip(curvature + rho * sqrt(parameters) * widths, 0, None))
    return np.divide(1, roots, out=widths.copy(), where=roots * widths > 1)


def _divergence(sizes: HostArray, widths: HostArray, levels: HostArray, gamma: float) -> float:
    r"""Add :math:`\ln(\tau_i / \sigma_i)`; a zero that may not move counts as what a small parameter does, which is saturated."""
    saturated = np.full_like(sizes, 1 + 1 / gamma if gamma > 0 else 1.0)
    ratios = np.divide(sizes + widths, levels, out=saturated, where=levels > 0)
    return float(np.sum(np.log(ratios)))


def _notes(saturated: int, count: int, curvature: HessianDiagonal) -> tuple[str, ...]:
    notes = []
    if saturated:
        notes.append(f"{saturated} of {count} parameters are saturated: their curvature has no influence on the value")
    if any(group.method in ("probes", "residual probes") for group in curvature.groups.values()):
        notes.append("the noise of the probes is in the curvature and in rho, which makes the value too large")
    return tuple(notes)
