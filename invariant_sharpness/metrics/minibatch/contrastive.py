"""Contrastive ratios (Huszar 2018): the flatness of a minibatch's loss over that of the mean loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.minibatches import jackknife, minibatches_of
from invariant_sharpness.metrics.declaration import Metric
from invariant_sharpness.metrics.hessian_norms import hessian_spectral_norm
from invariant_sharpness.protocol import CurvatureOracle


def contrastive_ratio(
    oracle: CurvatureOracle,
    *,
    measure: Callable[[CurvatureOracle], Estimate] = hessian_spectral_norm,
    minibatches: int = 8,
    seed: int = 0,
) -> Estimate:
    r"""Mean of a measure over minibatches, divided by the measure of the mean loss: :math:`E_b[S(L_b)] / S(E_b[L_b])`.

    The minibatches are disjoint, of equal size, and cut at random; the denominator is measured on all of them together.

    - ``hessian_trace``, and whatever else is linear in the Hessian: identically 1, which says nothing.
    - ``hessian_spectral_norm`` (default): at least 1 where the largest eigenvalue is that of largest magnitude, since it is convex. **Not
      invariant** to rescaling, although proposed as invariant by construction (erratum E12); it is on ``ish.Scaled(oracle, s)``.
    - ``normalized_sharpness``: at most 1 where no curvature is clipped, since it is concave. Invariant to row and column rescaling, as is
      every ratio of an invariant measure.

    The standard error is the jackknife's over the minibatches, taken as independent. As they make up the data together, it is too large,
    for a linear measure infinitely so. Cost: twice that of the measure.
    Source: Huszar (2018).

    Parameters
    ----------
    measure
        ``oracle -> Estimate``.

    Raises
    ------
    ValueError
        If there are fewer than three minibatches, or more than examples, or the measure of the mean loss is zero.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.
    """
    cut = minibatches_of(oracle, minibatches, seed, "contrastive_ratio")
    estimates, whole = [measure(part) for part in cut.parts], measure(cut.together)
    if whole.value == 0:
        msg = f"{whole.name} of the mean loss is zero, so there is no ratio to it: take another measure"
        raise ValueError(msg)
    values = np.array([estimate.value for estimate in estimates]) / whole.value
    return Estimate(
        name="contrastive_ratio",
        value=float(values.mean()),
        method=f"{whole.name} of {minibatches} minibatches",
        standard_error=jackknife(lambda kept: float(values[kept].mean()), minibatches),
        degrees_of_freedom=minibatches - 1,
        converged=all(estimate.converged for estimate in (*estimates, whole)),
    )


CONTRASTIVE = Metric(
    name="contrastive_ratio",
    function=contrastive_ratio,
    symbol=r"C",
    equation=r"\frac{E_b[\lVert H_b \rVert_2]}{\lVert E_b[H_b] \rVert_2}",
    summary="Sharpness of single minibatches over that of the mean loss.",
    needs="Hessian-vector products of parts of the data",
    cost="twice that of the spectral norm",
    invariances=frozenset({"permutation", "output_shift"}),
    pitfalls=(
        "It was proposed as invariant by construction, and is not (erratum E12). Numerator and denominator "
        "are moved by a rescaling, but not by the same factor, unless the measure is linear in the Hessian, "
        "and then the ratio is 1."
    ),
    reference="Huszar (2018)",
    default=False,
)
