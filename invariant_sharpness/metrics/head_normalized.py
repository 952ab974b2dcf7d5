"""Normalized sharpness with a full matrix of scales within each attention head: an extension of (17) that is this library's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum

import numpy as np

from invariant_sharpness.coordinates import GaussNewton
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.diagonal_blocks import gauss_newton_blocks
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.normalized import normalized_sharpness
from invariant_sharpness.parameters.heads import Heads, check_names
from invariant_sharpness.protocol import CurvatureOracle, GaussNewtonOracle, require
from invariant_sharpness.results.estimate import Bracket, Estimate, GroupEstimate, methods_in_words
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.solvers.heads import HeadSolution, solve_heads

_NO_HEADS = "no heads were named: every weight counts as in (17), with the Gauss-Newton diagonal; name those of attention with heads="


@metric(
    symbol=r"S_{\mathrm{head}}",
    equation=(
        r"\sum_l \min_{A > 0,\, B \succ 0} \sum_{ia} \Bigl( A_i \operatorname{tr}(G_{ia} B_a) "
        r"+ \frac{w_{ia}^T B_a^{-1} w_{ia}}{2 \lambda A_i} \Bigr)"
    ),
    summary="Curvature of attention weights in the best basis of each head, of all others in the best scale per unit.",
    needs="Gauss-Newton products and diagonal",
    cost="two products per output, or one per entry of the weights with heads; and the solver",
    invariances={"row", "row_column", "head", "permutation", "unit_split", "output_scale", "output_shift"},
    pitfalls=(
        "It knows only of the heads that it is told of; a kernel with several projections in it has the heads of "
        "all of them. Some heads have fewer symmetries than it survives: rotary embeddings allow for rotations "
        "within pairs of dimensions alone, and a normalization of queries and keys for none. Where few examples "
        "leave the curvature of a head singular, the directions without curvature cost nothing, so that more data "
        "can raise the value. For networks with many outputs, such as language models, the blocks take one product "
        "for each entry, which is out of reach for all but the smallest."
    ),
    reference="this library; not in the literature. It extends (17) of Tsuzuku, Sato and Sugiyama (2019)",
)
@renamed(products="num_matvecs")
def head_normalized_sharpness(
    oracle: CurvatureOracle,
    *,
    heads: Mapping[str, Heads] | None = None,
    lam: float = 0.5,
    tolerance: float = 1e-12,
    num_matvecs: int = 4096,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
) -> Estimate:
    r"""Compute normalized sharpness of the Gauss-Newton matrix, with a full matrix of scales within each attention head.

    .. math::
        \sum_l \min_{A > 0,\, B \succ 0} \sum_{ia} \Bigl( A_i \operatorname{tr}(G_{ia} B_a)
        + \frac{w_{ia}^T B_a^{-1} w_{ia}}{2 \lambda A_i} \Bigr)

    over the weights l with heads. The units of the side on which the heads a are have the positive definite matrix :math:`B_a` of each head instead of one
    scale each; the units i of the other side have the scales :math:`A_i`, which all heads share. :math:`w_{ia}` is the part of the weight that
    unit i has in head a, and :math:`G_{ia}` the diagonal block of the Gauss-Newton matrix that belongs to it. With heads of width 1 this is (17). All
    other weights count as in (17), with the Gauss-Newton diagonal. Biases and norm parameters do not count.

    Invariant to layer, row and column rescaling, and to every change of basis within a head: any invertible matrix into the queries and its
    inverse transpose into the keys, or into the values and its inverse into the projection of the outputs. (17) is not. The value is at most that of
    (17) for the Gauss-Newton matrix: ``ish.normalized_sharpness(ish.GaussNewton(oracle))``.

    ``relative_gap`` is the proven relative gap of the minimum, for the curvatures as they are given. The error of a curvature shows where it is
    singular up to rounding: what counts as zero there can cost the root of the rounding.

    The blocks are exact: from the matrices of single examples, for twice as many Gauss-Newton products as an example has outputs, or else from
    columns, one product for each entry of the weights with heads.
    Source: this library; not in the literature.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    heads
        How many heads a weight has, and on which side, by the name of the weight:
        ``{"query.weight": ish.Heads(8), "out.weight": ish.Heads(8, "input")}``. Of low-rank adapters :func:`adapter_heads` describes the pairs.
    lam
        :math:`\lambda` of the PAC-Bayes bound.
    tolerance
        Relative gap at which the solver stops.
    num_matvecs
        Largest number of Gauss-Newton products for the blocks.
    probes
        Number of samples of the outputs for the other weights, where there are many outputs.
    budget
        What the diagonal of the other weights may cost in gradients, in the place of ``probes``, see :func:`hessian_diagonal`.
    seed
        Seed of these samples.

    Returns
    -------
    Estimate
        The sum over the weights, with the proven relative gap of the minima, and the contribution of each weight.

    Raises
    ------
    ArgumentError
        If a weight does not exist or cannot have these heads, the blocks need more products, or the loss is not convex in the
        outputs, so that there is no minimum.
    MissingCapabilityError
        If the oracle has no Gauss-Newton products.

    Examples
    --------
    Without heads it is (17) of the Gauss-Newton matrix. One weight of 2 with curvature 2 adds 2 * 2 * root of 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> round(ish.head_normalized_sharpness(oracle).value, 6)
    5.656854
    """
    able = require(oracle, GaussNewtonOracle, metric="head_normalized_sharpness")
    named = dict(heads or {})
    check_names(oracle.groups, named)
    rest = frozenset(group.name for group in oracle.groups if group.is_weight and group.name not in named)
    others = normalized_sharpness(
        GaussNewton(oracle), parameters=rest, lam=lam, tolerance=tolerance, probes=probes, budget=budget, seed=seed
    )
    minima = _minima(able, named, lam, tolerance, num_matvecs, seed) if named else {}
    shares = _shares(oracle, others, minima)
    added = fsum(minimum.solution.value for minimum in minima.values())
    gap = _gap(others, minima)
    return Estimate(
        name="head_normalized_sharpness",
        value=others.value + added,
        method=methods_in_words([share.method for share in shares.values()], probes),
        standard_error=others.standard_error,
        degrees_of_freedom=others.degrees_of_freedom,
        bracket=None if others.bracket is None else Bracket(*(side + added for side in others.bracket)),
        certificate=gap,
        converged=gap <= tolerance,
        per_group=shares,
        notes=(*others.notes, *_notes(minima)),
    )


@dataclass(frozen=True, slots=True)
class _Minimum:
    """The minimum of one weight with heads, and how its blocks were obtained."""

    solution: HeadSolution
    method: str


def _minima(
    oracle: GaussNewtonOracle, heads: Mapping[str, Heads], lam: float, tolerance: float, products: int, seed: int
) -> dict[str, _Minimum]:
    groups = {group.name: group for group in oracle.groups}
    places = {
        name: own.split(groups[name], np.arange(groups[name].size).reshape(groups[name].shape))
        for name, own in heads.items()
    }
    found = gauss_newton_blocks(oracle, places, num_matvecs=products, seed=seed)
    weights = oracle.to_numpy(oracle.parameters)
    minima = {}
    for name in track(places, "solving for the heads", len(places)):
        w = weights[name].ravel()[places[name]] / np.sqrt(2 * lam)
        solution = solve_heads(found.blocks[name], w, tolerance=tolerance, rounding=found.rounding)
        minima[name] = _Minimum(solution, found.method)
    return minima


def _shares(oracle: CurvatureOracle, others: Estimate, minima: Mapping[str, _Minimum]) -> dict[str, GroupEstimate]:
    own = {
        name: GroupEstimate(
            m.solution.value, m.method, note="" if m.solution.attained else "the infimum is not attained"
        )
        for name, m in minima.items()
    }
    shares = {**others.per_group, **own}
    return {group.name: shares[group.name] for group in oracle.groups if group.name in shares}


def _gap(others: Estimate, minima: Mapping[str, _Minimum]) -> float:
    """Compute the relative gap of all minima together."""
    value = fsum(share.value for share in others.per_group.values())
    loss = (others.certificate or 0.0) * value
    value += fsum(minimum.solution.value for minimum in minima.values())
    loss += fsum(minimum.solution.value - minimum.solution.lower_bound for minimum in minima.values())
    return loss / value if value > 0 else 0.0


def _notes(minima: Mapping[str, _Minimum]) -> tuple[str, ...]:
    if not minima:
        return (_NO_HEADS,)
    loose = sum(not minimum.solution.attained for minimum in minima.values())
    if not loose:
        return ()
    return (
        f"in {loose} of {len(minima)} weights with heads the infimum is not attained: directions of a head without curvature or weights, which cost nothing",
    )
