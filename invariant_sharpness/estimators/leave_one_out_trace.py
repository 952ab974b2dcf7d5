r"""XTrace: the trace of the Hessian, every random vector serving for the sketch and for the rest of it.

Each estimate :math:`t_i` sketches with all vectors but one and probes what is left with that one. Given the others it is
unbiased, :math:`E[t_i] = \operatorname{tr} H`, but two of them share all other vectors and are correlated: the variance of the :math:`t_i`
alone is too small an error. With :math:`t_{i|j}`, the estimate from :math:`\omega_i` that sketches without :math:`\omega_j` too,

.. math:: \operatorname{Cov}(t_i, t_j) = E[(t_i - t_{i|j})(t_j - t_{j|i})],

because :math:`t_{j|i}` does not depend on :math:`\omega_i`, over which :math:`t_i` has the mean :math:`\operatorname{tr} H` whatever the others are; the same
holds with i and j exchanged. So the variance of the mean is estimated without bias, from small matrices alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.estimators.bases import HostArray
from invariant_sharpness.estimators.hutchinson import require_matvecs
from invariant_sharpness.estimators.products import numbers_of_products
from invariant_sharpness.estimators.sketches import sketch
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.memory import reserve

_ROUNDING = 1e-12


@renamed(products="num_matvecs")
@checked_numbers
def xtrace(oracle: CurvatureOracle, *, num_matvecs: int = 64, seed: int = 0) -> Estimate:
    r"""XTrace: the mean of the estimates that leave out one of the random signs :math:`\omega_i` each.

    .. math:: t_i = \operatorname{tr}(Q_{(i)}^T H Q_{(i)}) + \frac{P - r_i}{\lVert z_i \rVert^2}\, z_i^T H z_i, \quad
        z_i = (I - Q_{(i)} Q_{(i)}^T)\, \omega_i,

    P is the number of parameters and :math:`r_i` the rank of :math:`Q_{(i)}`. Exact if the rank of H is less than ``num_matvecs // 2``,
    and for a multiple of the identity.

    The standard error counts the correlation of the :math:`t_i`. They are unbiased for vectors uniform on a sphere, as the
    paper has it; for signs the fraction makes a bias of at most about :math:`2 / P` of the second term, far below the error.

    Invariances: those of the trace, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: ``num_matvecs`` Hessian-vector products. Memory: half as many vectors.
    Source: Epperly, Tropp and Webber (2024), sections 2.1 and 2.3; the error is not theirs.

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
    Estimate
        The trace, with a standard error.

    Raises
    ------
    ArgumentError
        If ``num_matvecs`` is less than 6, or the vectors do not fit into the memory limit.

    Examples
    --------
    The rank of this Hessian is less than twenty, so its trace is exact:

    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]])
    >>> round(xtrace(oracle, num_matvecs=40).value, 6)
    5.0
    """
    require_matvecs("xtrace", num_matvecs, 6)
    draws = num_matvecs // 2
    with reserve(oracle, draws, f"xtrace(num_matvecs={num_matvecs})"):
        found = left_out_traces(oracle, draws, seed)
    return Estimate(
        "xtrace",
        float(found.one.mean()),
        f"XTrace, {num_matvecs} products",
        standard_error=found.variance_of_mean() ** 0.5,
        degrees_of_freedom=draws - 1,
    )


class LeftOutTraces(NamedTuple):
    """Estimates that leave out one vector, and a matrix of those that leave out two.

    ``one[i]`` is the estimate from vector i, which sketches without it, and ``two[j, i]`` the one that sketches without
    vector j too.
    """

    one: HostArray
    two: HostArray

    def variance_of_mean(self) -> float:
        """Return the variance of the mean of ``one``: their own, and their covariance unless it comes out negative."""
        count = len(self.one)
        changes = self.one - self.two
        np.fill_diagonal(changes, 0.0)
        covariance = float(np.sum(changes * changes.T)) / (count * (count - 1))
        return float(np.var(self.one, ddof=1)) / count + max(covariance, 0.0)


def left_out_traces(oracle: CurvatureOracle, draws: int, seed: int) -> LeftOutTraces:
    """Return the estimates of XTrace, by twice as many products as draws."""
    given = _small_matrices(oracle, draws, seed)
    one = _without_own(given)
    return LeftOutTraces(one.traces, _without_two(given, one).traces)


class _SmallMatrices(NamedTuple):
    r"""``projected`` is :math:`Q^T H Q`, ``signs`` :math:`Q^T \Omega`, ``products`` :math:`Q^T H \Omega`; the others are as in a sketch."""

    projected: HostArray
    signs: HostArray
    products: HostArray
    left_out: HostArray
    forms: HostArray
    size: int

    @property
    def inside(self) -> HostArray:
        """Coordinates of each sign vector along the sketch without it."""
        return self.signs - self.left_out * np.sum(self.left_out * self.signs, axis=0)


class _Remainders(NamedTuple):
    """Traces inside of sketches, and of a sign vector what is outside: quadratic form, squared norm and dimensions."""

    inside: HostArray
    forms: HostArray
    squares: HostArray
    dimensions: HostArray

    @property
    def traces(self) -> HostArray:
        """The estimates; a remainder of nothing counts as zero."""
        left = (self.dimensions > 0) & (self.squares > _ROUNDING * self.dimensions)
        factors = np.where(left, self.dimensions / np.where(left, self.squares, 1.0), 0.0)
        return self.inside + self.forms * factors


def _small_matrices(oracle: CurvatureOracle, draws: int, seed: int) -> _SmallMatrices:
    found = sketch(oracle, draws, seed)
    basis = found.basis
    projected = numbers_of_products(
        oracle,
        basis.vectors.__getitem__,
        len(basis),
        "probing the trace of a sketch",
        lambda _, product: list(basis.coordinates(product)),
        draws,
        seed,
    )
    return _SmallMatrices(
        projected=(projected + projected.T) / 2,
        signs=np.array([basis.coordinates(random.signs(oracle, seed, index)) for index in range(draws)]).T,
        products=found.coordinates,
        left_out=found.left_out,
        forms=found.forms,
        size=sum(group.size for group in oracle.groups),
    )


def _without_own(given: _SmallMatrices) -> _Remainders:
    """Probe with every vector what is outside of the sketch without it."""
    B, S, inside = given.projected, given.left_out, given.inside
    # with z = omega - Q c, c the coordinates inside: z^T H z = omega^T H omega + c^T (B c - 2 Q^T H omega)
    return _Remainders(
        inside=np.trace(B) - np.sum(S * (B @ S), axis=0),
        forms=given.forms + np.sum(inside * (B @ inside - 2 * given.products), axis=0),
        squares=given.size - np.sum(inside**2, axis=0),
        dimensions=given.size - len(B) + np.any(S != 0, axis=0),
    )


def _without_two(given: _SmallMatrices, one: _Remainders) -> _Remainders:
    """Probe with vector i, in column i, what is outside of the sketches without it and one more, j in row j.

    What j takes with it is the direction u, :math:`s_j` less its part along :math:`s_i`.
    """
    B, S = given.projected, given.left_out
    # inner products of different directions s, and the lengths of u
    overlaps = S.T @ S - np.diag(np.sum(S**2, axis=0))
    lengths = np.sqrt(np.maximum(1 - overlaps**2, _ROUNDING))

    def along(values: HostArray) -> HostArray:
        """The inner products of u, from those of all s in the rows."""
        return (values - overlaps * np.diag(values)) / lengths

    # the part of each sign vector along u, and what it adds to the quadratic form
    signs = along(S.T @ given.signs)
    slopes = along(S.T @ (given.products - B @ given.inside))
    # u^T H u
    M = S.T @ B @ S
    forms = (np.diag(M)[:, None] - 2 * overlaps * M + overlaps**2 * np.diag(M)) / lengths**2
    return _Remainders(
        inside=one.inside - forms,
        forms=one.forms + 2 * signs * slopes + signs**2 * forms,
        squares=one.squares + signs**2,
        dimensions=one.dimensions + np.any(S != 0, axis=0)[:, None],
    )
