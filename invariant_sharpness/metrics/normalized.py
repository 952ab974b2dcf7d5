"""Normalized sharpness, equation (17) of Tsuzuku, Sato and Sugiyama (2019)."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np

from invariant_sharpness.coordinates.blocks import HostArray
from invariant_sharpness.coordinates.families import Family, others, weights_alone, weights_with_biases
from invariant_sharpness.coordinates.solver import solve
from invariant_sharpness.estimate import Estimate, GroupEstimate
from invariant_sharpness.estimators.diagonal import HessianDiagonal, hessian_diagonal
from invariant_sharpness.metrics.declaration import BiasPolicy, Metric
from invariant_sharpness.metrics.parameter_normalized import parameterwise
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, ParameterGroup


def normalized_sharpness(
    oracle: CurvatureOracle,
    *,
    biases: BiasPolicy = "exclude",
    lam: float = 0.5,
    tolerance: float = 1e-12,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Normalized sharpness (17).

    .. math::
        \sum_l \min_{\sigma, \sigma' > 0} \sum_{ij}
        \Bigl( h_{ij} (\sigma_i \sigma'_j)^2 + \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2} \Bigr),
        \qquad h_{ij} = \frac{\partial^2 L}{\partial W_{ij}^2}

    One scale per output unit and one per input unit of each weight; for convolutions one per output and
    input channel, with h and W^2 summed over the kernel positions. Negative entries of h are clipped at 0,
    as in the paper's Algorithm 1. The value is proportional to :math:`\lambda^{-1/2}`.

    Invariant to layer, row and column rescaling. ``certificate`` is the proven relative duality gap of the
    minimum. A sampled diagonal makes the value noisy and biased (clipping pushes it up, the minimum down);
    its standard error is that of the envelope :math:`\sum \sigma^2 h`.

    Cost: that of the Hessian diagonal, and matrix-vector sweeps over h and W^2.
    Source: Tsuzuku, Sato and Sugiyama (2019), arXiv version; the published version differs.

    Parameters
    ----------
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
    """
    families, singles = _layers(oracle.groups, biases)
    counted = frozenset([name for f in families for name in f.names] + [g.name for g in singles])
    if diagonal is None:
        diagonal = hessian_diagonal(oracle, names=counted, probes=probes, seed=seed)
    weights = oracle.to_numpy(oracle.parameters)
    layers = [
        _solve(family, weights, diagonal.arrays, lam, tolerance)
        for family in track(families, "solving (17)", len(families))
    ]
    layers += [_parameterwise(group, weights, diagonal.arrays, lam) for group in singles]
    value, lower = fsum(x.value for x in layers), fsum(x.lower_bound for x in layers)
    gap = (value - lower) / value if value > 0 else 0.0
    return Estimate(
        name="normalized_sharpness",
        value=value,
        method=diagonal.method(counted),
        standard_error=diagonal.standard_error({k: v for x in layers for k, v in x.derivatives.items()}),
        certificate=gap,
        converged=gap <= tolerance,
        per_group={x.name: _group_estimate(x, diagonal) for x in layers},
        notes=_notes(layers),
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """The minimum of one family, with its derivative in the curvature (the envelope theorem)."""

    name: str
    value: float
    lower_bound: float
    attained: bool
    derivatives: HostArrays


def _layers(groups: tuple[ParameterGroup, ...], biases: BiasPolicy) -> tuple[list[Family], list[ParameterGroup]]:
    """What is solved as a matrix, and what is counted parameter by parameter."""
    if biases == "exclude":
        return weights_alone(groups), []
    if biases == "column":
        families = weights_with_biases(groups)
    elif biases == "parameterwise":
        families = weights_alone(groups)
    else:
        msg = f'biases={biases!r} is not a policy: take "exclude", "column" or "parameterwise"'
        raise ValueError(msg)
    return families, others(groups, families)


def _solve(family: Family, weights: HostArrays, curvature: HostArrays, lam: float, tolerance: float) -> _Layer:
    clipped = {name: np.clip(curvature[name], 0, None) for name in family.names}
    a = family.blocks(clipped)
    b = family.blocks({name: weights[name] ** 2 for name in family.names}) / (2 * lam)
    value, lower, attained, variances = _infimum(a, b, tolerance)
    slopes = family.arrays(variances)
    derivatives = {name: np.where(curvature[name] > 0, slopes[name], 0.0) for name in family.names}
    return _Layer(family.weight.name, value, lower, attained, derivatives)


def _infimum(a: HostArray, b: HostArray, tolerance: float) -> tuple[float, float, bool, HostArray]:
    """Value, lower bound, whether attained, and the variances, of a stack of independent matrices."""
    if 1 in a.shape[1:]:
        return _single_row_or_column(a, b)
    solutions = [solve(x, y, tolerance=tolerance) for x, y in zip(a, b, strict=True)]
    variances = [np.where(s.within_blocks, np.exp(s.rows[:, None] + s.columns), 0.0) for s in solutions]
    return (
        fsum(s.value for s in solutions),
        fsum(s.lower_bound for s in solutions),
        all(s.attained for s in solutions),
        np.stack(variances),
    )


def _single_row_or_column(a: HostArray, b: HostArray) -> tuple[float, float, bool, HostArray]:
    """A depthwise kernel: every entry has a scale of its own, and the minimum is ``2 sqrt(a b)``."""
    value = float(2 * (np.sqrt(a) * np.sqrt(b)).sum())
    variances = np.sqrt(np.divide(b, a, out=np.zeros_like(a), where=a > 0))
    return value, value, bool(((a > 0) == (b > 0)).all()), variances


def _parameterwise(group: ParameterGroup, weights: HostArrays, curvature: HostArrays, lam: float) -> _Layer:
    value, derivative = parameterwise(weights[group.name], curvature[group.name], sqrt(2 / lam))
    return _Layer(group.name, value, value, attained=True, derivatives={group.name: derivative})


def _notes(layers: list[_Layer]) -> tuple[str, ...]:
    loose = [layer.name for layer in layers if not layer.attained]
    if not loose:
        return ()
    where = f"{len(loose)} of {len(layers)} layers"
    return (f"in {where} the infimum is not attained: dead units or unused inputs, which cost nothing",)


def _group_estimate(layer: _Layer, diagonal: HessianDiagonal) -> GroupEstimate:
    methods = dict.fromkeys(diagonal[name].method for name in layer.derivatives)
    notes = [*map(diagonal.note, layer.derivatives), "" if layer.attained else "the infimum is not attained"]
    return GroupEstimate(
        layer.value, " and ".join(methods), diagonal.standard_error(layer.derivatives), "; ".join(filter(None, notes))
    )


NORMALIZED = Metric(
    name="normalized_sharpness",
    function=normalized_sharpness,
    symbol=r"S",
    equation=(
        r"\sum_l \min_{\sigma, \sigma' > 0} \sum_{ij} \Bigl( \frac{\partial^2 L}{\partial W_{ij}^2} "
        r"(\sigma_i \sigma'_j)^2 + \frac{W_{ij}^2}{2\lambda (\sigma_i \sigma'_j)^2} \Bigr)"
    ),
    summary="Curvature in the best scale per output unit and per input unit of each layer.",
    needs="Hessian diagonal of the weights",
    cost="one backward pass per output where exact, else 64 products; and the solver",
    invariances=frozenset({"layer", "row_column"}),
    reference="Tsuzuku, Sato and Sugiyama (2019), (17)",
)
