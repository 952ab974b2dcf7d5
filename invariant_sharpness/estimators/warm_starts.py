"""Where Lanczos' method begins: at random, or near the eigenvector of a model that was almost this one."""

from __future__ import annotations

from invariant_sharpness import prng as random
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle

_RANDOM_PART = 0.1
"""The length of the random part beside the old eigenvector, which has length 1."""


class WarmStart:
    r"""The eigenvector that was found last: the next iteration begins near it.

    .. math:: v_0 \propto v + 0.1\, r

    with the old eigenvector v and a random vector r, both of length 1. While a network is trained its leading eigenvector turns slowly, so that fewer products
    reach the same tolerance.

    The random part keeps the value right. A Ritz vector is a polynomial of the Hessian times the start, whose zeros are the other Ritz values. While these are
    smaller than its own value :math:`\lambda`, it has no smaller a part along an eigenvector of a larger :math:`\mu` than the start has, which is about
    :math:`0.1\, |r_\mu|` even where v is orthogonal to it. Its residual is at least this part times :math:`\mu - \lambda`, so that the iteration stops at
    :math:`\lambda`, with the tolerance :math:`\tau`, only if :math:`\mu - \lambda \le 10\, \tau \lambda / |r_\mu|`. From a random start it is a tenth of that, and
    :math:`r_\mu` is about one over the root of the number of parameters.

    A vector of other parameters is no start: where names, shapes, types or devices have changed the iteration begins at random.

    Parameters
    ----------
    vector
        A vector of length 1 near which to begin; by default none, and the first iteration begins at random.

    Examples
    --------
    The eigenvectors of diag(1, 2) and diag(1, 3) are the same, and the second iteration begins near it:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> start = ish.estimators.WarmStart()
    >>> for largest in (2.0, 3.0):
    ...     oracle = quadratic(np.diag([1.0, largest]), np.array([[3.0, 4.0]]))
    ...     print(round(ish.hessian_spectral_norm(oracle, start=start).value, 6))
    2.0
    3.0
    >>> [round(abs(float(entry)), 6) for entry in start.vector["weight"].ravel()]
    [0.0, 1.0]
    """

    def __init__(self, vector: ParameterVector | None = None) -> None:
        self.vector = vector

    def directions(self, oracle: CurvatureOracle, seed: int) -> tuple[ParameterVector, ...]:
        """Return the vector with which to begin; none if there is no eigenvector of these parameters."""
        if self.vector is None:
            return ()
        drawn = random.uniform(oracle, seed, 0)
        if self.vector.form != drawn.form:
            return ()
        return (self.vector + (_RANDOM_PART / drawn.norm()) * drawn,)
