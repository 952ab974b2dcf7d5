"""The epsilon-sharpness of Keskar et al. (2017), in all parameters and in a random subspace."""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.box_search import flattened, increase_in_box, unflattened
from invariant_sharpness.estimators.conditional_gradient import LossIncrease
from invariant_sharpness.estimators.perturbations import Perturbations, require_positive
from invariant_sharpness.estimators.random_subspace import random_subspace
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Bracket, Estimate

HostArray = npt.NDArray[np.float64]

_CITATION = "Keskar, Mudigere, Nocedal, Smelyanskiy and Tang (2017), metric 2.1"


@metric(
    symbol=r"\phi_{\epsilon}",
    equation=r"100 \max_{|y_i| \le \epsilon (|\theta_i| + 1)} \frac{L(\theta + y) - L(\theta)}{1 + L(\theta)}",
    summary="Largest loss increase in a box around the parameters, in percent.",
    needs="losses and gradients near the parameters",
    cost="about 20 gradients",
    invariances={"permutation"},
    pitfalls='The "+1" and the units of the iterations make it depend on the scale of the parameters (erratum '
    "E17). L-BFGS-B is made for minima of convex functions; near a minimum of the loss, whose largest "
    "rise it looks for, it learns no curvature and climbs along the gradient. From a point where the "
    "gradient is exactly zero it does not move, and the value is zero however sharp the minimum is: take "
    "``worst_case_sharpness``, which starts elsewhere too.",
    reference=f"{_CITATION}, all parameters",
)
@renamed(iterations="max_iterations")
def keskar_sharpness(oracle: CurvatureOracle, *, epsilon: float = 1e-3, max_iterations: int = 10) -> Estimate:
    r"""Find the largest loss increase in a box, in percent of 1 + loss: :math:`100 \max_{|y_i| \le \epsilon (|\theta_i| + 1)} \dfrac{L(\theta + y) - L(\theta)}{1 + L(\theta)}`.

    As in the paper, the maximum is what ten iterations of L-BFGS-B find: a **lower bound**, which depends on the
    optimizer. They start at the parameters. ``relative_gap`` is the gap of the first-order condition over the increase,
    :math:`\max_u \langle \nabla L(\theta + y), u - y \rangle` over u in the box; zero at a local maximum. Ending after ten iterations
    is part of the definition, and not reported as a failure.

    Not invariant, although the box is meant to follow the scale of the parameters: the "+1" does not, nor do
    the iterations, in which all parameters have the same units. ``keskar_sharpness(Scaled(oracle, abs(theta)), epsilon=epsilon / 2)`` has the
    box :math:`\epsilon |\theta_i|` and the coordinates :math:`y / |\theta|`, and is invariant to every diagonal rescaling; see ``magnitudes`` for
    parameters that are zero.

    Cost: about 15 losses and as many gradients. Memory: about 25 float64 vectors on the host.
    Source: Keskar, Mudigere, Nocedal, Smelyanskiy and Tang (2017), metric 2.1 with A = I.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    epsilon
        Size of the box; in the paper 1e-3 and 5e-4.
    max_iterations
        Number of iterations of L-BFGS-B, which is part of the definition.

    Returns
    -------
    Estimate
        The value in percent, with ``relative_gap``, and a bracket that is open above.

    Raises
    ------
    ArgumentError
        If ``epsilon`` is not positive and finite, or there is no iteration.
    LossError
        If the loss is not above -1.
    NonFiniteError
        If the loss is not finite in the box.

    Examples
    --------
    Around 2 the box reaches 0.3 far. There the loss, half of the square, rises from 2 by 0.645, which is 21.5 percent of 3:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> round(ish.keskar_sharpness(oracle, epsilon=0.1).value, 6)
    21.5
    """
    require_positive("epsilon", epsilon)
    around = Perturbations.equal(oracle, 1.0)
    increase = increase_in_box(
        lambda y: around.increase(unflattened(oracle, y)),
        lambda y: flattened(oracle, around.slope(unflattened(oracle, y))),
        epsilon * (np.abs(flattened(oracle, oracle.parameters)) + 1),
        max_iterations,
    )
    return _percentage("keskar_sharpness", increase, around, max_iterations)


@metric(
    symbol=r"\phi_{\epsilon, A}",
    equation=r"100 \max_{|z_j| \le \epsilon (|(A^+ \theta)_j| + 1)} \frac{L(\theta + A z) - L(\theta)}{1 + L(\theta)}",
    summary="Largest loss increase in a box in a random subspace, in percent.",
    needs="losses and gradients near the parameters",
    cost="about 20 gradients, and 100 vectors in memory",
    invariances=(),
    pitfalls=(
        "The reach of the box grows with the scale of the random columns, which the paper does not state. "
        "Another seed is another subspace and another value. The branches of L-BFGS-B depend on rounding: "
        "adding up the batches in another order has moved a value by a thousandth."
    ),
    reference=f"{_CITATION}, random subspace",
)
@renamed(iterations="max_iterations")
def keskar_subspace_sharpness(
    oracle: CurvatureOracle,
    *,
    epsilon: float = 1e-3,
    columns: int = 100,
    column_scale: float = 1.0,
    max_iterations: int = 10,
    seed: int = 0,
) -> Estimate:
    r"""Find the largest loss increase in a box within a random subspace: :math:`100 \max_{|z_j| \le \epsilon (|(A^+ \theta)_j| + 1)} \dfrac{L(\theta + A z) - L(\theta)}{1 + L(\theta)}`.

    The entries of A, with p columns, are independent and normal; :math:`A^+ \theta` is the least-squares solution of :math:`A z = \theta`. The paper does
    not say how A is scaled, and as :math:`|A^+ \theta|` is far below one, the value depends on it: the reach is proportional to ``column_scale``, so
    values are comparable at equal ones only. A **lower bound** with a ``relative_gap``, as :func:`keskar_sharpness`; one subspace, drawn by the seed.

    Not invariant. On ``Scaled(oracle, s)`` with an equivariant scale it is, the "+1" too: there the columns in the parameters' own units are
    :math:`s \circ A_j`, and the box is made from :math:`A^+ (\theta / s)`.

    Cost: about 15 losses and as many gradients, and ``columns`` inner products for each. Memory: ``columns`` vectors.
    Source: Keskar, Mudigere, Nocedal, Smelyanskiy and Tang (2017), metric 2.1 with p = 100.

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    epsilon
        Size of the box; in the paper 1e-3 and 5e-4.
    columns
        p, the dimension of the subspace.
    column_scale
        Standard deviation of the entries of A. With P parameters :math:`1/\sqrt P` makes columns of length one.
    max_iterations
        Number of iterations of L-BFGS-B, which is part of the definition.
    seed
        Seed of the subspace.

    Returns
    -------
    Estimate
        The value in percent, with ``relative_gap``, and a bracket that is open above.

    Raises
    ------
    ArgumentError
        If ``epsilon`` or ``column_scale`` is not positive and finite, there is no column or no iteration, or the columns
        do not fit into the memory limit.
    LossError
        If the loss is not above -1.
    NonFiniteError
        If the loss is not finite in the box.

    Examples
    --------
    In one dimension with a short column the box is that of the parameter itself, 0.2 around 2. The loss rises by 0.42, 14 percent of 3:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> round(ish.keskar_subspace_sharpness(oracle, epsilon=0.1, columns=1, column_scale=1e-3).value, 1)
    14.0
    """
    require_positive("epsilon", epsilon)
    require_positive("column_scale", column_scale)
    around = Perturbations.equal(oracle, 1.0)
    with random_subspace(oracle, columns, column_scale, seed, "keskar_subspace_sharpness") as A:
        increase = increase_in_box(
            lambda z: around.increase(A.point(z)),
            lambda z: A.products(around.slope(A.point(z))),
            epsilon * (np.abs(A.coordinates(oracle.parameters)) + 1),
            max_iterations,
        )
    return _percentage("keskar_subspace_sharpness", increase, around, max_iterations)


def _percentage(name: str, increase: LossIncrease, around: Perturbations, max_iterations: int) -> Estimate:
    value = 100 * around.over_one_plus_loss(increase.value)
    return Estimate(
        name=name,
        value=value,
        method=f"L-BFGS-B, at most {max_iterations} iterations",
        certificate=increase.relative_gap,
        notes=around.notes(increase.value),
        bracket=Bracket(value, inf),
    )
