"""Normalized sharpness, equation (17) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from math import fsum
from typing import Literal

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, added_changes, error_of_parts, planned
from invariant_sharpness.metrics.brackets import OF_THE_HESSIAN, OF_THE_RESIDUAL, added_brackets
from invariant_sharpness.metrics.counted_groups import left_out, require_weights, without_curvature
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.layer_errors import LayerErrors, MeasuredLayer, Minimizer
from invariant_sharpness.metrics.layer_minima import parameterwise_layer, solved
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL, estimated
from invariant_sharpness.parameters.matrices import LayerMatrix, others, weights_alone, weights_with_biases
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.results.estimate import Bracket, Estimate
from invariant_sharpness.runtime.progress import track

BiasPolicy = Literal["exclude", "column", "parameterwise"]


@metric(
    symbol=r"S",
    equation=(
        r"\sum_l \min_{\sigma, \sigma' > 0} \sum_{ij} \Bigl( \frac{\partial^2 L}{\partial W_{ij}^2} "
        r"(\sigma_i \sigma'_j)^2 + \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2} \Bigr)"
    ),
    summary="Curvature in the best scale per output unit and per input unit of each layer.",
    needs="Hessian diagonal of the weights",
    cost=f"{COST_OF_DIAGONAL}; and the solver, on the host",
    invariances={"row", "row_column", "permutation", "unit_split", "output_scale", "output_shift"},
    invariances_with={
        "biases": {
            "column": {"row_column", "permutation", "output_scale"},
            "parameterwise": {"row", "row_column", "permutation", "unit_split", "output_scale"},
        }
    },
    pitfalls="A *sampled* diagonal makes the value too large, because noise below zero is clipped. Read the column "
    '"how it was obtained"; raise ``probes`` until the value stays, or use a network whose diagonal is '
    "exact. It does not survive linear maps that mix units, such as a change of basis inside an attention "
    "head. The published version of the paper (ICML 2020) defines another quantity; (17) is that of the "
    "arXiv version.",
    reference="Tsuzuku, Sato and Sugiyama (2019), (17)",
    default=True,
)
@renamed(names="parameters")
def normalized_sharpness(
    oracle: CurvatureOracle,
    *,
    biases: BiasPolicy = "exclude",
    lam: float = 0.5,
    tolerance: float = 1e-12,
    probes: int = 64,
    budget: float | None = None,
    relative_error: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
    parameters: frozenset[str] | None = None,
) -> Estimate:
    r"""Compute normalized sharpness (17).

    .. math::
        \sum_l \min_{\sigma, \sigma' > 0} \sum_{ij}
        \Bigl( h_{ij} (\sigma_i \sigma'_j)^2 + \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2} \Bigr),
        \qquad h_{ij} = \frac{\partial^2 L}{\partial W_{ij}^2}

    One scale per output unit and one per input unit of each weight; for convolutions one per output and
    input channel, with h and W^2 summed over the kernel positions. Negative entries of h are clipped at 0,
    as in the paper's Algorithm 1. The value is proportional to :math:`\lambda^{-1/2}`.

    Invariant to layer, row and column rescaling. ``relative_gap`` is the proven relative duality gap of the minimum.

    If outputs are sampled, ``bracket`` has two sides: solved and evaluated on all samples, which is too small in
    expectation as it is a minimum, and solved on one half and evaluated on the other, which is too large. The value
    lies a third of the way up, where there is no bias of first order. Probes of the Hessian have noise of both signs, which
    is clipped at 0, and the value is too large, in large networks many times: the bracket then reaches from 0 to the minimum with
    one scale for each weight; see :class:`invariant_sharpness.GaussNewton` for a quantity without this bias. The standard error is that of
    :math:`\sum \sigma^2 h`.

    Cost: that of the Hessian diagonal, and matrix-vector sweeps over h and W^2.
    Source: Tsuzuku, Sato and Sugiyama (2019), arXiv version; the published version differs.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    biases
        ``"exclude"`` (default, the paper's footnote 5): biases and norm parameters do not count. The only
        policy under which the value does not change when the output biases are shifted.
        ``"column"``: the bias is one more column of its weight, a norm's gain and bias are two columns.
        ``"parameterwise"``: each adds :math:`\sqrt{2/\lambda}\,|b|\sqrt h`.
        All three are invariant to row and column rescaling. Parameters of no known role count as biases.
    lam
        :math:`\lambda` of the PAC-Bayes bound; the paper sets it to 1/2.
    tolerance
        Relative duality gap at which the solver stops.
    probes
        Number of Hessian-vector products, or of samples of the outputs, where the diagonal is not exact.
    budget
        What the diagonal may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`.
    relative_error
        If given, drawing ends before the ``budget`` is spent where half of what the 95 % interval reaches from the value is no more than this fraction of it.
    seed
        Seed of these draws.
    diagonal
        The diagonal of the Hessian, if it is known. Groups that it lacks are computed.
    parameters
        Names of the weights and norm gains that count, each with the bias that it owns. Default: all.

    Returns
    -------
    Estimate
        The sum over the layers, with the proven relative gap of the minima, and the contribution of each weight. Notes name
        parameters of no known role, which do not count.

    Raises
    ------
    ModelError
        If no weight counts.

    Examples
    --------
    With all weights and curvatures 1 every scale is 1, and each of the four weights adds 1 + 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(4), np.ones((2, 2)))
    >>> round(ish.normalized_sharpness(oracle).value, 9)
    8.0
    """
    chosen = _chosen(oracle.groups, parameters)
    families, singles = _layers(chosen, biases)
    counted = frozenset([name for f in families for name in f.names] + [g.name for g in singles])
    if parameters is None or parameters:
        require_weights(chosen, counted, "normalized_sharpness")

    def measured(known: HessianDiagonal) -> Estimate:
        weights = oracle.to_numpy(oracle.parameters)
        minimizers: list[Minimizer] = [
            *(partial(solved, family, weights, lam=lam, tolerance=tolerance) for family in families),
            *(partial(parameterwise_layer, group, weights, lam=lam) for group in singles),
        ]
        found = _total(minimizers, LayerErrors(known, counted, weights, lam), tolerance)
        return replace(
            found, notes=(*found.notes, *left_out(chosen, counted), *without_curvature(known, counted), *planned(known))
        )

    return estimated(
        measured, oracle, counted, diagonal, probes=probes, budget=budget, relative_error=relative_error, seed=seed
    )


def _total(minimizers: Sequence[Minimizer], errors: LayerErrors, tolerance: float) -> Estimate:
    """Return the sum of the minima, with its errors; one layer after the other, so that the scales of one are in memory at a time."""
    layers = [errors.of_layer(minimize) for minimize in track(minimizers, "solving (17)", len(minimizers))]
    plug_in, lower = fsum(x.value for x in layers), fsum(x.lower_bound for x in layers)
    gap = (plug_in - lower) / plug_in if plug_in > 0 else 0.0
    bracket = _bracket(layers, plug_in)
    scatter = error_of_parts(added_changes(x.changes for x in layers))
    return Estimate(
        name="normalized_sharpness",
        value=plug_in if bracket is None or errors.of_clipping else (2 * bracket.lower + bracket.upper) / 3,
        method=errors.diagonal.method(errors.names),
        standard_error=None if scatter is None else scatter.standard_error,
        degrees_of_freedom=None if scatter is None else scatter.degrees_of_freedom,
        bracket=bracket,
        certificate=gap,
        converged=gap <= tolerance,
        per_group={x.name: x.estimate for x in layers},
        notes=_notes(errors.methods),
    )


def _bracket(layers: Sequence[MeasuredLayer], plug_in: float) -> Bracket | None:
    """Return what is below and above in expectation: for clipped noise, and for scales that were chosen on the same samples."""
    sides = [x.bracket for x in layers if x.bracket is not None]
    crossed = [x.crossed for x in layers if x.crossed is not None]
    if not crossed:
        return added_brackets(sides) if sides else None
    if not sides:
        return Bracket(plug_in, fsum(crossed))
    clipped = added_brackets(sides)
    return Bracket(clipped.lower, max(clipped.upper, fsum(crossed)))


def _chosen(groups: tuple[ParameterGroup, ...], names: frozenset[str] | None) -> tuple[ParameterGroup, ...]:
    return groups if names is None else tuple(g for g in groups if g.name in names or g.owner in names)


def _layers(groups: tuple[ParameterGroup, ...], biases: BiasPolicy) -> tuple[list[LayerMatrix], list[ParameterGroup]]:
    """Return what is solved as a matrix, and what is counted parameter by parameter."""
    if biases == "exclude":
        return weights_alone(groups), []
    families = weights_with_biases(groups) if biases == "column" else weights_alone(groups)
    return families, others(groups, families)


def _notes(methods: AbstractSet[str]) -> tuple[str, ...]:
    if methods & OF_THE_HESSIAN:
        return (
            "probes were clipped at 0, which makes the value too large in expectation; more probes make it less so",
        )
    if methods & OF_THE_RESIDUAL:
        return ("what was drawn and came out negative was clipped at 0: the bracket says how much that can add",)
    return ()
