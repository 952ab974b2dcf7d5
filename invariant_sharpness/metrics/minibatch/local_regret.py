"""Local regret in the Euclidean ball (Huszar 2018)."""

from __future__ import annotations

import numpy as np

from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.minibatches import minibatches_of
from invariant_sharpness.metrics.declaration import Metric
from invariant_sharpness.metrics.minibatch.pairs import mean_regret
from invariant_sharpness.protocol import CurvatureOracle


def local_regret(oracle: CurvatureOracle, *, minibatches: int = 8, seed: int = 0) -> Estimate:
    r"""Regret between minibatches in a small Euclidean ball around the parameters, over its radius.

    .. math::
        \lim_{\epsilon \to 0} \frac{R}{\epsilon} = \operatorname{mean}_{i \ne j}
        \Bigl( \lVert g_j \rVert - \frac{g_j \cdot g_i}{\lVert g_i \rVert} \Bigr)

    with the gradients :math:`g_b` of disjoint minibatches of equal size, cut at random. In coordinates that move as the parameters
    do it is invariant, on ``ish.Scaled(oracle, s)``; as it stands, to no rescaling.

    The standard error is the jackknife's over the minibatches. A note has the mean of :math:`1 - \cos(g_i, g_j)`.
    Cost: one gradient of the whole data set, and one vector for each minibatch.
    Source: Huszar (2018), who writes the gradient of the second minibatch into the trace by mistake: erratum E13.

    Raises
    ------
    ValueError
        If there are fewer than three minibatches, or more than examples.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.
    """
    parts, _ = minibatches_of(oracle, minibatches, seed, "local_regret")
    gradients = [part.gradient(part.parameters) for part in parts]
    gram = np.array([[a.dot(b) for b in gradients] for a in gradients])
    return mean_regret(
        "local_regret", gram, f"{minibatches} minibatches, Euclidean", residual=None, tolerance=0.0, note=""
    )


LOCAL_REGRET = Metric(
    name="local_regret",
    function=local_regret,
    symbol=r"R / \epsilon",
    equation=r"\operatorname{mean}_{i \ne j} \lVert g_j \rVert \bigl( 1 - \cos(g_i, g_j) \bigr)",
    summary="How much worse the best step for one minibatch is for another, in a Euclidean ball.",
    needs="gradients of parts of the data",
    cost="one gradient",
    invariances=frozenset({"permutation", "output_shift"}),
    pitfalls=(
        "At a minimum where every example is fitted all gradients vanish, and so does the regret. It depends "
        "on the size of the minibatches: the smaller, the larger."
    ),
    reference="Huszar (2018)",
    default=False,
)
