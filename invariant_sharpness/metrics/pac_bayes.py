"""The PAC-Bayes bound (1)-(4) of Tsuzuku, Sato and Sugiyama (2019), with all of its terms."""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal, planned
from invariant_sharpness.estimators.perturbed_losses import perturbed_losses, zero_one_loss
from invariant_sharpness.metrics.counted_groups import require_weights
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.metrics.shared_diagonal import COST_OF_DIAGONAL, diagonal_of
from invariant_sharpness.pac_bayes.bound import PacBayesBound
from invariant_sharpness.pac_bayes.divergence import divergence_at_equal_variances, gaussian_divergence
from invariant_sharpness.pac_bayes.scales import SCALES, Scales, number_of_floats
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays, SubsetOracle, require
from invariant_sharpness.results.estimate import Estimate

ScaleName = Literal["matrix", "row_column", "parameter"]

_UNBOUNDED = (
    "the bound holds for a loss between 0 and 1, and that of the oracle is not known to be: give labels= to bound the "
    "share of wrong classifications, which is"
)
_VACUOUS = "vacuous: a loss between 0 and 1 is at most 1 without any bound"


@metric(
    symbol=r"B_{\lambda,\delta}",
    equation=(
        r"L_S(Q) + \frac1\lambda \Bigl( \mathrm{KL}[Q \| P] + 32 \ln 2 \cdot n + \ln\frac1\delta "
        r"+ \frac{\lambda^2}{8m} \Bigr)"
    ),
    summary="Right-hand side of a PAC-Bayes bound, for noise on the weights in the best scales.",
    needs="losses, the Hessian diagonal of the weights, and the number of examples",
    cost=f"32 losses, about 11 gradients; and {COST_OF_DIAGONAL}",
    invariances={"row_column", "output_scale"},
    invariances_with={"scales": {"matrix": {"layer", "output_scale"}, "parameter": {"diagonal", "output_scale"}}},
    pitfalls=(
        "It is vacuous for most networks, and mostly counts scales. Without ``labels=`` it is no bound, as "
        "cross-entropy may exceed 1. It is one for the noisy network, not for the network itself, and for the "
        "data that the network was trained on, not for others. Where the best scales do not exist, as for "
        "unused inputs, those of the balanced weights stand in, which see the biases: then a shift of the "
        "outputs moves it a little. See :doc:`pac_bayes`."
    ),
    reference="Tsuzuku, Sato and Sugiyama (2019), (1)-(8)",
    up_to_error={"permutation"},
)
@renamed(examples="num_examples")
def pac_bayes_bound(
    oracle: CurvatureOracle,
    *,
    labels: npt.ArrayLike | None = None,
    num_examples: int | None = None,
    scales: ScaleName = "row_column",
    lam: float | None = None,
    delta: float = 0.05,
    draws: int = 16,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> Estimate:
    r"""Compute the PAC-Bayes bound (1) on the expected loss of the network with Gaussian noise on its weights.

    .. math::
        L_D(Q) \le L_S(Q) + \frac1\lambda \Bigl( \mathrm{KL}[Q \| P] + 32 \ln 2 \cdot n + \ln\frac1\delta
        + \frac{\lambda^2}{8m} \Bigr)

    The posterior Q is :math:`N(W, \sigma_Q^2)` with the variances of (17), or of (11), at this :math:`\lambda`, with the half of h that
    Taylor's formula has and they lack; where their minimum is not attained, as for unused inputs, with those of the balanced
    weights. The prior P is
    :math:`N(0, \sigma_P^2)` with the variances of least divergence, :math:`\sigma_P^2 = \sigma_Q^2 + \|W\|^2 / k` where a matrix has one; the paper's
    :math:`\sigma_P = \sigma_Q` gives the larger (7). It learns n numbers after training, its scales and all biases and
    norm parameters, at 22.2 nats each. The last term is Hoeffding's; (3) prints :math:`\lambda^2 / (2m)`.
    :math:`L_S(Q)` is sampled; the standard error is its, and the bound holds up to it.

    All terms, also (B) and (C) of (4), are in :func:`pac_bayes_terms`. With ``scales="row_column"`` the value is invariant to layer,
    row and column rescaling, draw by draw; with ``"matrix"`` to layer rescaling; with ``"parameter"`` to every diagonal rescaling.

    Cost: that of the Hessian diagonal, and two losses per draw.
    Source: Tsuzuku, Sato and Sugiyama (2019), (1)-(8); Germain, Bach, Lacoste and Lacoste-Julien (2016).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    labels
        The class of every example, in the order of the data. Then the losses are the shares of wrong
        classifications, for which the bound holds. Without, they are those of the oracle, which are between 0 and 1 for few losses.
    num_examples
        m. Default: counted, where the oracle can tell. The examples must be those that the network was trained on,
        drawn independently; for sequences m is their number, not that of their tokens.
    scales
        Which weights share a variance: ``"matrix"``, ``"row_column"`` or ``"parameter"``. They cost 22.2 nats each.
    lam
        :math:`\lambda`, which must be fixed before the examples are seen. Default: m.
    delta
        With what probability the bound may fail.
    draws
        Number of pairs of noise.
    probes
        Number of Hessian-vector products, or of samples of the outputs, where the diagonal is not exact.
    budget
        What the diagonal may cost in gradients, in the place of ``probes``: it is exact if that fits, see :func:`hessian_diagonal`.
    seed
        Seed of these draws.
    diagonal
        The diagonal of the Hessian, if it is known. Groups that it lacks are computed.

    Returns
    -------
    Estimate
        The bound, with the standard error of the sampled loss; a note has its terms.

    Raises
    ------
    ArgumentError
        If ``draws`` is less than 2, or ``scales``, ``num_examples``, ``lam`` or ``delta`` is out of range.
    DataError
        If labels and examples do not fit.
    MissingCapabilityError
        If ``num_examples`` is not given and the oracle cannot count them, or ``labels`` is and it does not show its outputs.

    Examples
    --------
    Without curvature the loss is zero, and what is left is the price of one scale, of the confidence and of the sample:

    >>> from math import log
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> still = quadratic(np.zeros((1, 1)), np.array([[2.0]]))
    >>> bound = ish.pac_bayes_bound(still, num_examples=100, lam=100.0)
    >>> terms = ish.pac_bayes_terms(still, num_examples=100, lam=100.0)
    >>> divergence = sum(terms.divergences.values())
    >>> by_hand = (divergence + 32 * log(2) * 1 + log(20) + 100**2 / 800) / 100
    >>> round(bound.value - by_hand, 9)
    0.0
    """
    known = _diagonal(oracle, scales, draws, diagonal, probes=probes, budget=budget, seed=seed)
    bound = pac_bayes_terms(
        oracle,
        labels=labels,
        num_examples=num_examples,
        scales=scales,
        lam=lam,
        delta=delta,
        draws=draws,
        seed=seed,
        diagonal=known,
    )
    notes = [_UNBOUNDED] if labels is None else []
    return Estimate(
        name="pac_bayes_bound",
        value=bound.value,
        method=f"{draws} pairs of draws",
        standard_error=bound.standard_error,
        degrees_of_freedom=draws - 1,
        notes=(*notes, *([_VACUOUS] if bound.value >= 1 else []), str(bound), *planned(known)),
    )


@renamed(examples="num_examples")
@checked_numbers
def pac_bayes_terms(
    oracle: CurvatureOracle,
    *,
    labels: npt.ArrayLike | None = None,
    num_examples: int | None = None,
    scales: ScaleName = "row_column",
    lam: float | None = None,
    delta: float = 0.05,
    draws: int = 16,
    probes: int = 64,
    budget: float | None = None,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> PacBayesBound:
    """Compute the bound of :func:`pac_bayes_bound` with all of its terms.

    Invariances, cost and source as there.

    Parameters
    ----------
    oracle, labels, num_examples, scales, lam, delta, draws, probes, budget, seed, diagonal
        As in :func:`pac_bayes_bound`.

    Returns
    -------
    PacBayesBound
        The terms, which add up to the value.

    Raises
    ------
    ArgumentError, DataError, MissingCapabilityError
        As :func:`pac_bayes_bound`.

    Examples
    --------
    One matrix has one number of the row and column scales that is not given by the others:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> ish.pac_bayes_terms(oracle, num_examples=100).floats
    1
    """
    chosen = _resolve(scales)
    diagonal = _diagonal(oracle, scales, draws, diagonal, probes=probes, budget=budget, seed=seed)
    # What is bounded, and m and lambda.
    loss = oracle.loss if labels is None else zero_one_loss(oracle, labels)
    if num_examples is None:
        num_examples = _examples(oracle).examples if labels is None else len(np.asarray(labels))
    lam = float(num_examples) if lam is None else lam
    # The posterior, from half of the curvature of the weights, and the loss of the network with its noise.
    variances = chosen.posterior(oracle, {name: diagonal[name].values / 2 for name in _weights(oracle)}, lam)
    losses = perturbed_losses(oracle, _deviations(oracle, variances), range(draws), seed, loss)
    weights = oracle.to_numpy(oracle.parameters)
    return PacBayesBound(
        stochastic_loss=float(losses.mean()),
        loss=loss(oracle.parameters),
        divergences=_divergences(oracle, chosen, weights, variances),
        equal_variances_divergence=sum(divergence_at_equal_variances(weights[n], v) for n, v in variances.items()),
        floats=number_of_floats(oracle.groups, chosen),
        examples=num_examples,
        lam=lam,
        delta=delta,
        standard_error=float(losses.std(ddof=1)) / sqrt(draws),
    )


def _diagonal(
    oracle: CurvatureOracle,
    scales: str,
    draws: int,
    known: HessianDiagonal | None,
    *,
    probes: int,
    budget: float | None,
    seed: int,
) -> HessianDiagonal:
    """Return the diagonal of the weights, from which the posterior has its variances, if the bound can be had."""
    if draws < 2:
        msg = f"draws={draws}, but a mean loss with a standard error needs at least 2"
        raise ArgumentError(msg)
    _resolve(scales)
    require_weights(oracle.groups, _weights(oracle), "pac_bayes_bound")
    return diagonal_of(oracle, _weights(oracle), known, probes=probes, budget=budget, seed=seed)


def _weights(oracle: CurvatureOracle) -> frozenset[str]:
    return frozenset(group.name for group in oracle.groups if group.is_weight)


def _resolve(scales: str) -> Scales:
    if scales not in SCALES:
        msg = f"scales={scales!r} is not known: take {', '.join(map(repr, SCALES))}"
        raise ArgumentError(msg)
    return SCALES[scales]


def _examples(oracle: CurvatureOracle) -> SubsetOracle:
    return require(oracle, SubsetOracle, metric="pac_bayes_bound without num_examples=")


def _deviations(oracle: CurvatureOracle, variances: HostArrays) -> ParameterVector:
    """Return the standard deviations of the weights, and zero for all other groups."""
    arrays = {group.name: np.sqrt(variances.get(group.name, np.zeros(group.shape))) for group in oracle.groups}
    return oracle.from_numpy(arrays)


def _divergences(
    oracle: CurvatureOracle, scales: Scales, weights: HostArrays, variances: HostArrays
) -> dict[str, float]:
    return {
        g.name: gaussian_divergence(
            weights[g.name], variances[g.name], scales.prior(g, weights[g.name], variances[g.name])
        )
        for g in oracle.groups
        if g.is_weight
    }
