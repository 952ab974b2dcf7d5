r"""XDiag: the diagonal of the Hessian, every random vector serving for the sketch and for the rest of it.

Each estimate :math:`d_i` sketches with all vectors but one, and probes what is left with that one:

.. math:: d_i = \operatorname{diag}(Q_{(i)} Q_{(i)}^T H) + \omega_i \circ (I - Q_{(i)} Q_{(i)}^T) H \omega_i .

Given the others it is unbiased, but the :math:`d_i` share vectors: the error that they tell of a sum over entries, such as the trace,
can be half of what it should be. The jackknife errs to the other side: leaving a vector out altogether changes the mean
by more than the vector's own part in its error, by a factor that is much the same for all sums over entries. So
the parts are those of the jackknife, times the factor with which the variances of all entries add up to their unbiased
estimate (see :mod:`~invariant_sharpness.estimators.leave_one_out_trace`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.bases import HostArray, combination, zero_vector
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.estimators.hutchinson import require_matvecs
from invariant_sharpness.estimators.products import cached_products
from invariant_sharpness.estimators.sketches import Sketch, sketch
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.memory import reserve


@renamed(products="num_matvecs")
@checked_numbers
def xdiag(oracle: CurvatureOracle, *, num_matvecs: int = 64, seed: int = 0) -> HessianDiagonal:
    r"""XDiag, the mean of all :math:`d_i`, with random signs :math:`\omega_i`.

    Unbiased; exact if the rank of H is less than ``num_matvecs // 2``. The ``parts`` of each group are pseudo-values of
    the jackknife, one per vector, made for the standard error of any sum over entries; they are not independent, and the
    mean of some of them is no estimate of its own.

    Invariances: none of the values; on a :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings.

    Cost: ``num_matvecs`` Hessian-vector products. Memory: twice as many vectors, and on the host ``num_matvecs // 2`` copies.
    Source: Epperly, Tropp and Webber (2024), section 2.4; the errors are not theirs.

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    num_matvecs
        Number of Hessian-vector products, at least 6.
    seed
        Seed of the random signs.

    Returns
    -------
    HessianDiagonal
        The diagonal of every group.

    Raises
    ------
    ArgumentError
        If ``num_matvecs`` is less than 6, or the vectors do not fit into the memory limit.

    Examples
    --------
    The rank of this Hessian is less than twenty, so its diagonal is exact:

    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]])
    >>> [array.round(6).tolist() for array in xdiag(oracle, num_matvecs=40).arrays.values()]
    [[[2.0, 3.0, 0.0]]]
    """
    require_matvecs("xdiag", num_matvecs, 6)
    draws = num_matvecs // 2
    with reserve(oracle, 2 * num_matvecs, f"xdiag(num_matvecs={num_matvecs})"):
        left_out = _left_out(oracle, draws, seed)
        mean = reduce(add, map(left_out.one, range(draws))) / float(draws)
        parts = [oracle.to_numpy(mean + deviation) for deviation in _deviations(left_out, mean)]
    values = oracle.to_numpy(mean)
    groups = {
        group.name: GroupDiagonal(values[group.name], "XDiag", np.stack([part[group.name] for part in parts]))
        for group in oracle.groups
    }
    return HessianDiagonal(groups, num_matvecs)


@dataclass(frozen=True, slots=True)
class _LeftOut:
    r"""The estimates that leave out one vector or two.

    ``whole`` is :math:`\operatorname{diag}(Q Q^T H)`, ``directions`` are all :math:`Q s_i`, ``products`` all :math:`H Q s_i`, and ``forms`` is the matrix of
    :math:`(Q s_j)^T H \omega_i`.
    """

    whole: ParameterVector
    directions: list[ParameterVector]
    products: list[ParameterVector]
    signs: list[ParameterVector]
    overlaps: HostArray
    forms: HostArray

    def one(self, i: int) -> ParameterVector:
        """The estimate from vector i, which sketches without it."""
        return self.whole - self._share(self.directions[i], self.products[i], float(self.forms[i, i]), i)

    def change(self, i: int, j: int) -> ParameterVector:
        """The estimate from vector i, less that which sketches without vector j too."""
        # direction j without its part along direction i, and what belongs to it
        overlap = float(self.overlaps[j, i])
        length = max(1 - overlap**2, 1e-12) ** 0.5
        direction = (self.directions[j] - overlap * self.directions[i]) / length
        product = (self.products[j] - overlap * self.products[i]) / length
        return self._share(direction, product, float(self.forms[j, i] - overlap * self.forms[i, i]) / length, i)

    def _share(self, direction: ParameterVector, product: ParameterVector, form: float, i: int) -> ParameterVector:
        """What a direction adds to the estimate from vector i if the sketch has it."""
        return direction * (product - form * self.signs[i])


def _left_out(oracle: CurvatureOracle, draws: int, seed: int) -> _LeftOut:
    found = sketch(oracle, draws, seed)
    whole, directions, products = _directions(oracle, found, draws, seed)
    return _LeftOut(
        whole,
        directions,
        products,
        signs=[random.signs(oracle, seed, index) for index in range(draws)],
        overlaps=found.left_out.T @ found.left_out,
        forms=found.left_out.T @ found.coordinates,
    )


def _directions(
    oracle: CurvatureOracle, found: Sketch, draws: int, seed: int
) -> tuple[ParameterVector, list[ParameterVector], list[ParameterVector]]:
    """The diagonal inside of the sketch, and its directions that can be left out, with their products."""
    basis, zero = found.basis.vectors, zero_vector(oracle)
    pairs = cached_products(oracle, basis.__getitem__, len(basis), "probing the diagonal of a sketch", draws, seed)
    products = [product for _, product in pairs]
    whole = reduce(add, (vector * product for vector, product in zip(basis, products, strict=True)), zero)
    return (
        whole,
        [combination(basis, column, zero) for column in found.left_out.T],
        [combination(products, column, zero) for column in found.left_out.T],
    )


def _deviations(left_out: _LeftOut, mean: ParameterVector) -> list[ParameterVector]:
    """Return the jackknife's pseudo-values less their mean, times a factor that makes their variances right on the whole."""
    draws = len(left_out.signs)
    # variances of the estimates themselves, added up over all entries
    own = sum((left_out.one(i) - mean).norm() ** 2 for i in range(draws)) / (draws - 1)
    # pseudo-values of the jackknife, and the covariance of two estimates
    pseudo, covariance = [left_out.one(i) for i in range(draws)], 0.0
    for i, j in combinations(range(draws), 2):
        first, second = left_out.change(i, j), left_out.change(j, i)
        pseudo[j], pseudo[i] = pseudo[j] + first, pseudo[i] + second
        covariance += 2 * first.dot(second) / (draws - 1)
    # deviations from their center, scaled so that their variances add up to the unbiased estimate
    center = reduce(add, pseudo) / float(draws)
    deviations = [value - center for value in pseudo]
    jackknife = sum(deviation.norm() ** 2 for deviation in deviations) / (draws - 1)
    factor = ((own + max(covariance, 0.0)) / jackknife) ** 0.5 if jackknife > 0 else 0.0
    return [factor * deviation for deviation in deviations]
