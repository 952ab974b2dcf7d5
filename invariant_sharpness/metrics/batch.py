"""Batch sharpness: the curvature of minibatches along their own gradients (Andreyev and Beneventano 2024)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.estimators.minibatches import jackknife, minibatches_of
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.progress import track

Columns = npt.NDArray[np.float64]

_GRADIENTS = 3.0
"""A gradient and a Hessian-vector product of each minibatch."""


@metric(
    symbol=r"S_b",
    equation=r"\operatorname{mean}_b \frac{g_b^T H_b\, g_b}{\lVert g_b \rVert^2}",
    summary="Curvature of a minibatch along its own gradient, on average.",
    needs="gradients and Hessian-vector products of parts of the data",
    cost="one gradient and one Hessian-vector product, 3 gradients",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It depends on the size of the minibatches, which has to be that of the training. At the edge of "
        "stability of stochastic gradient descent it is 2 / learning rate, not the largest eigenvalue, which "
        "stays below. A mean of ratios is moved by a few minibatches with a small gradient; "
        "``pooled_batch_sharpness`` is the ratio of the means, which others call by the same name."
    ),
    reference="Andreyev and Beneventano (2024)",
)
def batch_sharpness(
    oracle: CurvatureOracle, *, size: int | None = None, minibatches: int = 8, seed: int = 0
) -> Estimate:
    r"""Average the curvature of minibatches along their own gradients: the mean of the ratios.

    .. math:: \operatorname{mean}_b \frac{g_b^T H_b\, g_b}{\lVert g_b \rVert^2}

    with the gradients :math:`g_b` and Hessians :math:`H_b` of disjoint minibatches of equal size, cut at random. Stochastic gradient descent
    raises it until it is 2 / learning rate. One minibatch of all data has :math:`g^T H g / g^T g`.

    The standard error is the jackknife's over the minibatches. Not invariant; on ``Scaled(oracle, s)`` with an equivariant scale it is, minibatch
    by minibatch.
    Cost: a gradient and a Hessian-vector product of all minibatches together, at most 3 gradients. Memory: two vectors.
    Source: Andreyev and Beneventano (2024), arXiv:2412.20553.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    size
        Number of examples of a minibatch, that of the training. Default: the data cut into so many minibatches.
    minibatches
        Number of minibatches, at least 3.
    seed
        Seed of the cut.

    Returns
    -------
    Estimate
        The mean ratio, with the jackknife's standard error.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or the data do not have so many examples.
    NonFiniteError
        If the gradient of a minibatch is zero.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.

    Examples
    --------
    In one dimension every direction is that of the gradient, so the value is the curvature, 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> ish.batch_sharpness(oracle, minibatches=3).value
    2.0
    """
    return _measured("batch_sharpness", _mean_of_ratios, oracle, size, minibatches, seed)


@metric(
    symbol=r"\bar S_b",
    equation=r"\frac{\operatorname{mean}_b g_b^T H_b\, g_b}{\operatorname{mean}_b \lVert g_b \rVert^2}",
    summary="Curvature of minibatches along their own gradients, over the mean squared gradient.",
    needs="gradients and Hessian-vector products of parts of the data",
    cost="one gradient and one Hessian-vector product, 3 gradients",
    invariances={"permutation", "output_shift"},
    pitfalls=(
        "It depends on the size of the minibatches, which has to be that of the training. Minibatches with a "
        "large gradient count more than others; ``batch_sharpness`` counts all of them alike."
    ),
    reference="Andreyev and Beneventano (2024), as the variant with the expectation inside",
)
def pooled_batch_sharpness(
    oracle: CurvatureOracle, *, size: int | None = None, minibatches: int = 8, seed: int = 0
) -> Estimate:
    r"""Divide the mean of :math:`g_b^T H_b\, g_b` over minibatches by that of :math:`\lVert g_b \rVert^2`: the ratio of the means.

    .. math:: \frac{\operatorname{mean}_b g_b^T H_b\, g_b}{\operatorname{mean}_b \lVert g_b \rVert^2}

    As :func:`batch_sharpness`, but a minibatch counts by its squared gradient. The two agree where all minibatches have the same ratio.
    Not invariant; on ``Scaled(oracle, s)`` with an equivariant scale it is. Cost and memory: as :func:`batch_sharpness`.
    Source: Andreyev and Beneventano (2024), arXiv:2412.20553.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    size, minibatches, seed
        As in :func:`batch_sharpness`.

    Returns
    -------
    Estimate
        The ratio, with the jackknife's standard error.

    Raises
    ------
    ArgumentError
        If there are fewer than three minibatches, or the data do not have so many examples.
    NonFiniteError
        If the gradient of a minibatch is zero.
    MissingCapabilityError
        If the oracle cannot be restricted to some examples.

    Examples
    --------
    In one dimension every direction is that of the gradient, so the value is the curvature, 2:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import ReluNetwork
    >>> network = ReluNetwork((np.array([[2.0]]),))
    >>> oracle = ish.oracle(network, (np.ones((3, 1)), np.array([[1.0], [1.0], [3.0]])), loss="mse")
    >>> ish.pooled_batch_sharpness(oracle, minibatches=3).value
    2.0
    """
    return _measured("pooled_batch_sharpness", _ratio_of_means, oracle, size, minibatches, seed)


def _mean_of_ratios(along: Columns) -> float:
    return float(np.mean(along[:, 0] / along[:, 1]))


def _ratio_of_means(along: Columns) -> float:
    return float(along[:, 0].sum() / along[:, 1].sum())


def _measured(
    name: str,
    statistic: Callable[[Columns], float],
    oracle: CurvatureOracle,
    size: int | None,
    minibatches: int,
    seed: int,
) -> Estimate:
    """Take a statistic of the rows (g'Hg, g'g) of the minibatches, and its jackknife."""
    parts, _ = minibatches_of(oracle, minibatches, seed, name, size)
    along = np.array(
        [_along_gradient(part) for part in track(parts, "minibatches", minibatches, _GRADIENTS / minibatches)]
    )
    return Estimate(
        name=name,
        value=statistic(along),
        method=f"{minibatches} minibatches",
        standard_error=jackknife(lambda kept: statistic(along[kept]), minibatches),
        degrees_of_freedom=minibatches - 1,
    )


def _along_gradient(part: CurvatureOracle) -> tuple[float, float]:
    """``g' H g`` and ``g' g``, of the direction of g and its length: neither square leaves the range of single precision."""
    gradient = part.gradient(part.parameters)
    length = gradient.norm()
    if length == 0:
        msg = "the gradient of a minibatch is zero, so there is no curvature along it: measure before the data are fitted exactly"
        raise NonFiniteError(msg)
    direction = gradient / length
    return length**2 * direction.dot(part.hessian_vector_product(part.parameters, direction)), length**2
