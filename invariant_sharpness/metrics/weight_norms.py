r"""Norms of the weights, on which norm-based generalization bounds are built (Bartlett et al. 2017; Neyshabur et al. 2018).

They are here as counterexamples. Section 5.1 of Tsuzuku, Sato and Sugiyama (2019): by rescaling two units, one up and one down, both
weights around them get entries as large as one likes. Then all spectral and Frobenius norms grow beyond bounds and all stable ranks
approach one, while the network computes what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from math import fsum, prod, sqrt

import numpy as np
import numpy.typing as npt
import scipy.linalg

from invariant_sharpness.metrics.counted_groups import left_out, require_weights
from invariant_sharpness.metrics.declaration import metric
from invariant_sharpness.parameters.matrices import rows_first
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate, GroupEstimate

Matrix = npt.NDArray[np.float64]

_PITFALLS = (
    "It does not look at the data. Scale one hidden unit up and another one down, and it goes where one likes while the function "
    "stays: section 5.1 of Tsuzuku et al. (2019)."
)


@metric(
    symbol=r"\prod_l \|W_l\|_2",
    equation=r"\prod_l \max_{\|x\| = 1} \|W_l x\|",
    summary="Bound of the network's Lipschitz constant.",
    needs="the weights alone",
    cost="no gradient",
    invariances={"layer", "permutation", "output_shift"},
    pitfalls=_PITFALLS,
    reference="Bartlett, Foster and Telgarsky (2017)",
)
def weight_spectral_norm(oracle: CurvatureOracle) -> Estimate:
    r"""Multiply the spectral norms of all weights, :math:`\prod_l \lVert W_l \rVert_2`.

    It bounds the Lipschitz constant of a chain of layers whose units have slopes of at most one. A convolution is the matrix of its filters.
    Invariant to layer rescaling of such a chain, since the factors cancel; not to row and column rescaling.

    Cost: no gradient; the largest singular value of each weight, on the host.
    Source: Bartlett, Foster and Telgarsky (2017), in their spectral complexity.

    Parameters
    ----------
    oracle
        Anything with the model's parameters.

    Returns
    -------
    Estimate
        The value, exact up to rounding, with that of each weight.

    Examples
    --------
    A single row (3, 4) has the norm 5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.weight_spectral_norm(oracle).value, 9)
    5.0
    """
    return _from_layers(oracle, "weight_spectral_norm", spectral_norm, prod)


@metric(
    symbol=r"\|W\|_F",
    equation=r"\Bigl(\sum_l \|W_l\|_F^2\Bigr)^{1/2}",
    summary="Size of all weights together.",
    needs="the weights alone",
    cost="no gradient",
    invariances={"permutation", "output_shift"},
    pitfalls=_PITFALLS,
    reference="Neyshabur, Tomioka and Srebro (2015)",
)
def weight_frobenius_norm(oracle: CurvatureOracle) -> Estimate:
    r"""Compute the norm of all weights together, :math:`(\sum_l \lVert W_l \rVert_F^2)^{1/2}`.

    Invariant to no rescaling. Cost: no gradient. Source: Neyshabur, Tomioka and Srebro (2015).

    Parameters
    ----------
    oracle
        Anything with the model's parameters.

    Returns
    -------
    Estimate
        The value, exact up to rounding, with that of each weight.

    Examples
    --------
    The weights 3 and 4 have the norm 5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.weight_frobenius_norm(oracle).value, 9)
    5.0
    """
    return _from_layers(oracle, "weight_frobenius_norm", _frobenius_norm, lambda norms: sqrt(fsum(n**2 for n in norms)))


@metric(
    symbol=r"r_s",
    equation=r"\sum_l \frac{\|W_l\|_F^2}{\|W_l\|_2^2}",
    summary="In how many directions the weights act.",
    needs="the weights alone",
    cost="no gradient",
    invariances={"layer", "permutation", "output_scale", "output_shift"},
    pitfalls=_PITFALLS,
    reference="Neyshabur, Bhojanapalli and Srebro (2018)",
)
def stable_rank(oracle: CurvatureOracle) -> Estimate:
    r"""Add the stable ranks of all weights, :math:`\sum_l \lVert W_l \rVert_F^2 / \lVert W_l \rVert_2^2`.

    Each is between one and the rank; of a weight that is zero it is zero. Invariant to layer rescaling, since it is homogeneous of degree zero;
    not to row and column rescaling, by which it can be brought as near to the number of layers as one likes.

    Cost: no gradient; the largest singular value of each weight, on the host.
    Source: Neyshabur, Bhojanapalli and Srebro (2018), in their bound.

    Parameters
    ----------
    oracle
        Anything with the model's parameters.

    Returns
    -------
    Estimate
        The value, exact up to rounding, with that of each weight.

    Examples
    --------
    A matrix of one row has rank 1:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> round(ish.stable_rank(oracle).value, 9)
    1.0
    """
    return _from_layers(oracle, "stable_rank", _stable_rank, fsum)


def spectral_norm(weight: Matrix) -> float:
    """Compute the largest singular value, from the smaller of the two Gram matrices."""
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    last = len(gram) - 1
    (largest,) = scipy.linalg.eigh(gram, eigvals_only=True, subset_by_index=[last, last])
    return sqrt(max(float(largest), 0.0))


def _stable_rank(weight: Matrix) -> float:
    largest = spectral_norm(weight)
    return (_frobenius_norm(weight) / largest) ** 2 if largest > 0 else 0.0


def _frobenius_norm(weight: Matrix) -> float:
    return float(np.linalg.norm(weight))


def _from_layers(
    oracle: CurvatureOracle, name: str, of_layer: Callable[[Matrix], float], joined: Callable[[list[float]], float]
) -> Estimate:
    weights = oracle.to_numpy(oracle.parameters)
    layers = {g.name: float(of_layer(rows_first(g, weights[g.name]))) for g in oracle.groups if g.is_weight}
    require_weights(oracle.groups, layers, name)
    shares = {layer: GroupEstimate(value, "exact") for layer, value in layers.items()}
    notes = left_out(oracle.groups, layers)
    return Estimate(name, float(joined(list(layers.values()))), "exact", per_group=shares, notes=notes)
