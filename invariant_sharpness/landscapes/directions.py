"""Random directions for pictures of the loss, as long as the weights that they change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, ParameterGroup

HostArray = npt.NDArray[np.float64]


@checked_numbers
def filter_normalized_directions(oracle: CurvatureOracle, count: int = 2, *, seed: int = 0) -> list[ParameterVector]:
    r"""Draw Gaussian directions in which every filter is as long as that of the weights (Li et al. 2018).

    .. math:: d_f \leftarrow \frac{d_f}{\lVert d_f \rVert} \lVert w_f \rVert

    for each row f of a weight. Biases and norm parameters stay where they are.

    Parameters
    ----------
    oracle
        The oracle of the model.
    count
        The number of directions: two make a plane.
    seed
        The seed of the draws.

    Returns
    -------
    list of ParameterVector
        The directions. Cost: no gradient.

    Notes
    -----
    Invariances: row rescaling. **Not row and column rescaling**: rows are normalized and columns are not, so
    that a rescaling of hidden units changes the picture of the same function.

    Source: Li, Xu, Taylor, Studer and Goldstein (2018), whose code adds 1e-10 to the norm.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> (direction,) = filter_normalized_directions(quadratic(np.eye(4), [[3.0, 4.0], [0.0, 1.0]]), count=1)
    >>> np.linalg.norm(direction["weight"], axis=1).round(12).tolist()  # as long as the rows
    [5.0, 1.0]
    """
    return [_drawn(oracle, seed, index, oracle.to_numpy(oracle.parameters), _by_filter) for index in range(count)]


@checked_numbers
def balanced_directions(oracle: CurvatureOracle, count: int = 2, *, seed: int = 0) -> list[ParameterVector]:
    r"""Draw Gaussian directions in balanced coordinates :math:`\phi = \theta / s`, each weight as long there as it is itself.

    .. math:: d_l = s_l \circ \frac{\epsilon_l}{\lVert \epsilon_l \rVert} \lVert \theta_l / s_l \rVert

    The scale s (:func:`invariant_sharpness.coordinates.scales.balanced`) transforms as the parameters do, so a rescaling of hidden units takes
    these directions along: the picture of the same function is the same, point by point. Biases and norm parameters stay where they are.

    Parameters
    ----------
    oracle
        The oracle of the model.
    count
        The number of directions: two make a plane.
    seed
        The seed of the draws.

    Returns
    -------
    list of ParameterVector
        The directions. Cost: no gradient.

    Notes
    -----
    Invariances: row and column rescaling. Source: this library.

    Examples
    --------
    A matrix of rank one is its own scale, so that its four entries have the size 1 in balanced coordinates, and the direction the length 2.

    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(4), [[1.0, 2.0], [3.0, 6.0]])
    >>> (direction,) = balanced_directions(oracle, count=1)
    >>> round((direction / oracle.parameters).norm(), 12)
    2.0
    """
    scale = balanced(oracle)
    s, phi = oracle.to_numpy(scale), oracle.to_numpy(oracle.parameters / scale)
    balanced_draws = [_drawn(oracle, seed, index, phi, _as_a_whole) for index in range(count)]
    return [direction * oracle.from_numpy(s) for direction in balanced_draws]


def _drawn(
    oracle: CurvatureOracle,
    seed: int,
    index: int,
    weights: dict[str, HostArray],
    normalized: Callable[[ParameterGroup, HostArray, HostArray], HostArray],
) -> ParameterVector:
    """Draw one direction, zero outside of the weights."""
    noise = oracle.to_numpy(random.normals(oracle, seed, index))
    arrays = {group.name: np.zeros(group.shape) for group in oracle.groups}
    for group in oracle.groups:
        if group.is_weight:
            arrays[group.name] = normalized(group, noise[group.name], weights[group.name])
    return oracle.from_numpy(arrays)


def _by_filter(group: ParameterGroup, noise: HostArray, weight: HostArray) -> HostArray:
    within = tuple(axis for axis in range(noise.ndim) if axis not in group.output_axes)
    lengths = [np.sqrt((array**2).sum(axis=within, keepdims=True)) for array in (noise, weight)]
    return noise / lengths[0] * lengths[1]


def _as_a_whole(_: ParameterGroup, noise: HostArray, weight: HostArray) -> HostArray:
    return noise / np.linalg.norm(noise) * np.linalg.norm(weight)
