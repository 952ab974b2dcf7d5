"""Relative flatness of a layer (Petzka, Kamp, Adilova, Sminchisescu and Boley 2021)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.products import numbers_of_products
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.parameters.matrices import in_layout, rows_first
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import require_probes
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup
from invariant_sharpness.results.estimate import Estimate, GroupEstimate

Matrix = npt.NDArray[np.float64]


@metric(
    symbol=r"\kappa",
    equation=r"\sum_{s, s'} \langle w_s, w_{s'} \rangle \operatorname{tr} H_{s s'}",
    summary="Curvature of the last layer along its own rows.",
    needs="Hessian-vector products",
    cost="64 products, 80 to 200 gradients",
    invariances={"layer", "row", "output_scale", "output_shift"},
    pitfalls=(
        "A rescaling of the units below the layer moves it. Brought into a normal form first, as the authors "
        "do, or on ``ish.Scaled(oracle, balanced(oracle))``, it stays."
    ),
    reference="Petzka, Kamp, Adilova, Sminchisescu and Boley (2021)",
    up_to_error={"permutation"},
)
def relative_flatness(
    oracle: CurvatureOracle, *, layer: str | None = None, probes: int = 64, seed: int = 0
) -> Estimate:
    r"""Estimate the curvature of one layer along its own output units.

    .. math::
        \kappa = \sum_{s, s'} \langle w_s, w_{s'} \rangle \operatorname{tr} H_{s s'} , \qquad
        (H_{s s'})_{jj} = \frac{\partial^2 L}{\partial w_{sj}\, \partial w_{s'j}}

    with the rows :math:`w_s` of the layer's weight, one for each output. It is the mean of :math:`v^T H v` over :math:`v = W Z` with a random
    matrix Z of signs, which is what is drawn here.

    Invariant to layer rescaling, and to a rescaling of the layer's outputs, one factor for each; **not** to one of its inputs. (The authors'
    code first divides all activations by their standard deviations.) Negative where the loss bends downwards.

    Cost: ``probes`` products. Source: Petzka et al. (2021).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    layer
        Name of a weight. Default: the last one, which acts on the features.
    probes
        Number of random matrices.
    seed
        Seed of these.

    Returns
    -------
    Estimate
        The mean of the draws, with its standard error.

    Raises
    ------
    ArgumentError
        If ``probes`` is less than 2, or there is no weight of that name; lists the names there are.

    Examples
    --------
    A single weight of 2 with curvature 1 has the value 2 * 2 * 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(1), np.array([[2.0]]))
    >>> ish.relative_flatness(oracle).value
    4.0
    """
    require_probes(probes, 2)
    group = _weight(oracle, layer)
    W = rows_first(group, oracle.to_numpy(oracle.parameters)[group.name])

    def direction(index: int) -> ParameterVector:
        return _direction(oracle, group, W @ _signs(seed, index, W.shape[1]))

    numbers = numbers_of_products(
        oracle, direction, probes, "relative flatness", lambda v, product: (v.dot(product),), group.name, seed
    )
    draws = numbers[:, 0]
    value, error = float(draws.mean()), float(np.std(draws, ddof=1) / np.sqrt(probes))
    return Estimate(
        name="relative_flatness",
        value=value,
        method=f"{probes} probes",
        standard_error=error,
        degrees_of_freedom=probes - 1,
        per_group={group.name: GroupEstimate(value, "probes", error)},
    )


def _weight(oracle: CurvatureOracle, name: str | None) -> ParameterGroup:
    weights = {group.name: group for group in oracle.groups if group.is_weight}
    if not weights:
        msg = "relative_flatness is that of a weight, and the oracle has no group with the role of one"
        raise ArgumentError(msg)
    if name is None:
        return list(weights.values())[-1]
    if name not in weights:
        msg = f"there is no weight {name!r}; the weights are {', '.join(weights)}"
        raise ArgumentError(msg)
    return weights[name]


def _signs(seed: int, index: int, size: int) -> Matrix:
    return np.where(random.mixing_values(seed, index, size * size) < 0, -1.0, 1.0).reshape(size, size)


def _direction(oracle: CurvatureOracle, group: ParameterGroup, matrix: Matrix) -> ParameterVector:
    """Bring the matrix into the layout of the weight, with zeros for all other groups."""
    arrays = {other.name: np.zeros(other.shape) for other in oracle.groups}
    arrays[group.name] = in_layout(group, matrix)
    return oracle.from_numpy(arrays)
