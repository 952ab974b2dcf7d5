r"""Regret between minibatches (Huszar 2018): in the Euclidean ball, and in the ball of the Kullback-Leibler divergence.

In the ball of radius :math:`\epsilon` around :math:`\theta` the linear function with gradient :math:`g_1` is least at
:math:`-\epsilon\, g_1 / \lVert g_1 \rVert`. How much worse that is for another minibatch than its own minimum is its *regret*,

.. math:: R / \epsilon = \lVert g_2 \rVert - \frac{g_2 \cdot g_1}{\lVert g_1 \rVert} = \lVert g_2 \rVert (1 - \cos(g_1, g_2)) ,

in whatever inner product the ball is round. Where :math:`g_1 = 0` every point is a minimum, and :math:`\theta` is taken.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates import GaussNewton, Moved, Scaled
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.inverse_products import inverse_products
from invariant_sharpness.estimators.minibatches import jackknife, minibatches_of
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate

Matrix = npt.NDArray[np.float64]

_ORTHOGONAL = 1e-6
"""Cosines of all pairs that are at most this say that the network moves each output by itself."""


def cosines(gram: Matrix) -> Matrix:
    """Compute the cosines of the angles between the gradients; zero beside a gradient that is zero."""
    norms = np.sqrt(np.diag(gram))
    sizes = np.outer(norms, norms)
    return np.divide(gram, sizes, out=np.zeros_like(gram), where=sizes > 0)


def regrets(gram: Matrix) -> Matrix:
    """Compute the regret of the second minibatch (column) at the minimum of the first (row)."""
    return np.sqrt(np.diag(gram)) * (1 - cosines(gram))


def mean_over_pairs(values: Matrix) -> float:
    """Average over all pairs of two different minibatches."""
    count = len(values)
    return float((values.sum() - np.trace(values)) / (count * (count - 1)))


def mean_regret(
    name: str, gram: Matrix, method: str, *, residual: float | None, tolerance: float, note: str
) -> Estimate:
    """Average all regrets, with the jackknife's standard error, and the mean of ``1 - cos`` in words."""
    R = regrets(gram)
    angle = f"mean of 1 - cos: {mean_over_pairs(1 - cosines(gram)):.6g}"
    return Estimate(
        name=name,
        value=mean_over_pairs(R),
        method=method,
        standard_error=jackknife(lambda kept: mean_over_pairs(R[np.ix_(kept, kept)]), len(R)),
        degrees_of_freedom=len(R) - 1,
        certificate=residual,
        converged=residual is None or residual <= tolerance,
        notes=tuple(filter(None, (angle, note))),
    )


@metric(
    symbol=r"R_{\mathrm{KL}} / \epsilon",
    equation=r"\operatorname{mean}_{i \ne j} \lVert g_j \rVert_{F^+} \bigl( 1 - \cos_{F^+}(g_i, g_j) \bigr)",
    summary="How much worse the best step for one minibatch is for another, in a ball of functions.",
    needs="gradients of parts of the data, and Gauss-Newton products",
    cost="one gradient, and up to 160 Gauss-Newton products: some hundred gradients",
    invariances={"linear", "unit_split", "output_scale", "output_shift"},
    pitfalls=(
        "If the parameters can move all outputs of the reference set, the gradients of minibatches, which "
        "share no example, are orthogonal whatever the network has learned; a note says so. Under other "
        "losses than cross-entropy and squared error the Gauss-Newton matrix is not the Fisher matrix, and "
        "gradients need not be in its range: the relative gap then stays above the tolerance."
    ),
    reference="Huszar (2018), who leaves it as homework; the solution is this library's",
)
@renamed(steps="max_iterations")
def kl_regret(
    oracle: CurvatureOracle,
    *,
    minibatches: int = 8,
    max_iterations: int = 20,
    tolerance: float = 1e-8,
    seed: int = 0,
    reference: CurvatureOracle | None = None,
) -> Estimate:
    r"""Measure the regret between minibatches in a small ball of the symmetrized KL divergence around the network, over its radius.

    Between the outputs at :math:`\theta` and :math:`\theta + \delta`, on average over the inputs of a reference set, the divergence in both
    directions together is :math:`\delta^T F \delta + O(\delta^3)` with the Fisher matrix F. So the ball is round in the metric F, where

    .. math::
        \frac{R}{\epsilon} \to \lVert g_2 \rVert_{F^+} \bigl( 1 - \cos_{F^+}(g_1, g_2) \bigr) , \qquad
        \cos_{F^+}(g_1, g_2) = \frac{g_2^T F^+ g_1}{\lVert g_1 \rVert_{F^+} \lVert g_2 \rVert_{F^+}} .

    For cross-entropy F is the Gauss-Newton matrix, and the gradients of minibatches of the reference set are in its range: no damping
    is needed. What is left is a function of the network's outputs alone, so it is invariant to **every** smooth
    reparametrization. The inverse is that of a Krylov space in balanced coordinates, which move as the parameters do under row and
    column rescaling: under these the value is the same also where the space is too small. ``relative_gap`` is the relative residual
    :math:`\lVert F x - g \rVert / \lVert g \rVert` in these coordinates.

    **Degenerate** where the reference set has no more outputs than the network has parameters to move each of them by itself, as in
    an interpolating network: then :math:`\cos_{F^+} = 0` for all pairs, whatever the network has learned. A note says so; take a
    reference set with :math:`N (K - 1)` larger than the number of parameters (its labels do not count), or fewer iterations.

    Cost: one gradient, and ``minibatches * max_iterations`` products with the Gauss-Newton matrix and vectors in memory, at most.
    Source: Huszar (2018) poses the problem; the solution is this library's.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    minibatches
        Number of minibatches that the data are cut into, at least 3.
    max_iterations
        Largest number of iterations, each of one product with the Fisher matrix for every minibatch.
    tolerance
        Relative residual at which the value has converged.
    seed
        Seed of the cut.
    reference
        An oracle of the same network on other inputs, for F. By default, the data of the minibatches.

    Returns
    -------
    Estimate
        The mean over pairs, with the jackknife's standard error and the relative residual as ``relative_gap``.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or more than examples, or the vectors do not fit into the memory limit.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples, or has no Gauss-Newton products.

    Examples
    --------
    With one weight and three gradients of 2, -2 and 2, it is the Euclidean regret 8 / 3 over the root of the Fisher matrix, here 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> round(ish.kl_regret(oracle, minibatches=3).value, 6)
    1.885618
    """
    scale = balanced(oracle)
    parts, _ = minibatches_of(Scaled(oracle, scale), minibatches, seed, "kl_regret")
    gradients = [part.gradient(part.parameters) for part in parts]
    where = oracle if reference is None else Moved(reference, oracle.parameters)
    found = inverse_products(
        GaussNewton(Scaled(where, scale)), gradients, max_iterations=max_iterations, tolerance=tolerance
    )
    method = f"{minibatches} minibatches, Fisher metric"
    note = _degenerate(found.gram)
    return mean_regret("kl_regret", found.gram, method, residual=found.residual, tolerance=tolerance, note=note)


def _degenerate(gram: Matrix) -> str:
    angles = np.abs(cosines(gram) - np.eye(len(gram)))
    if angles.max() > _ORTHOGONAL:
        return ""
    return (
        "all minibatches are orthogonal: the network can move each output of the reference set by itself, so the value says nothing "
        "about what it has learned; pass a reference set with more outputs than parameters, or take fewer iterations"
    )


@metric(
    symbol=r"R / \epsilon",
    equation=r"\operatorname{mean}_{i \ne j} \lVert g_j \rVert \bigl( 1 - \cos(g_i, g_j) \bigr)",
    summary="How much worse the best step for one minibatch is for another, in a Euclidean ball.",
    needs="gradients of parts of the data",
    cost="one gradient",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "At a minimum where every example is fitted all gradients vanish, and so does the regret. It depends "
        "on the size of the minibatches: the smaller, the larger."
    ),
    reference="Huszar (2018)",
)
def local_regret(oracle: CurvatureOracle, *, minibatches: int = 8, seed: int = 0) -> Estimate:
    r"""Measure the regret between minibatches in a small Euclidean ball around the parameters, over its radius.

    .. math::
        \lim_{\epsilon \to 0} \frac{R}{\epsilon} = \operatorname{mean}_{i \ne j}
        \Bigl( \lVert g_j \rVert - \frac{g_j \cdot g_i}{\lVert g_i \rVert} \Bigr)

    with the gradients :math:`g_b` of disjoint minibatches of equal size, cut at random. In coordinates that move as the parameters
    do it is invariant, on ``ish.Scaled(oracle, s)``; as it stands, to no rescaling.

    The standard error is the jackknife's over the minibatches. A note has the mean of :math:`1 - \cos(g_i, g_j)`.
    Cost: one gradient of the whole data set, and one vector for each minibatch.
    Source: Huszar (2018), who writes the gradient of the second minibatch into the trace by mistake: erratum E13.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    minibatches
        Number of minibatches that the data are cut into, at least 3.
    seed
        Seed of the cut.

    Returns
    -------
    Estimate
        The mean over pairs, with the jackknife's standard error.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or more than examples.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.

    Examples
    --------
    Of six ordered pairs of the gradients 2, 2 and -2, four are of opposite signs with a regret of 2 + 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> round(ish.local_regret(oracle, minibatches=3).value, 6)
    2.666667
    """
    parts, _ = minibatches_of(oracle, minibatches, seed, "local_regret")
    gradients = [part.gradient(part.parameters) for part in parts]
    # Squares of small gradients leave the range of single precision.
    largest = max(gradient.norm() for gradient in gradients) or 1.0
    units = [gradient / largest for gradient in gradients]
    gram = np.array([unit.dots(units) for unit in units])
    return mean_regret(
        "local_regret",
        largest**2 * gram,
        f"{minibatches} minibatches, Euclidean",
        residual=None,
        tolerance=0.0,
        note="",
    )
