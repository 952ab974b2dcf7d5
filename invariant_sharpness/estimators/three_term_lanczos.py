r"""Lanczos' method as it was at first: two vectors in memory, and no reorthogonalization.

.. math:: \beta_{j+1} q_{j+1} = H q_j - \alpha_j q_j - \beta_j q_{j-1}, \qquad \alpha_j = q_j^T H q_j

The tridiagonal matrix T of the :math:`\alpha` and :math:`\beta` has the Ritz values as eigenvalues; one with the eigenvector s of T has the residual
:math:`\beta_{k+1} |s_k|`. Rounding makes the vectors lose their orthogonality, and towards those Ritz vectors alone that have converged (Paige 1980): they are found again, as
copies of an eigenvalue that is there. Neither the extreme value nor its residual suffers from that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, Multiply, repeated_products
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate


@dataclass(frozen=True, slots=True)
class ThreeTerms:
    r"""The recurrence after some steps.

    Parameters
    ----------
    previous, current
        The vectors :math:`q_{k}` and :math:`q_{k+1}`, of norm 1.
    alphas
        :math:`\alpha_1, \dots, \alpha_k`.
    betas
        :math:`\beta_2, \dots, \beta_{k+1}`.
    """

    previous: ParameterVector
    current: ParameterVector
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()

    @property
    def done(self) -> int:
        return len(self.alphas)

    def save(self) -> Snapshot:
        """Write down the vectors and the matrix T."""
        return Snapshot(
            {"alphas": np.array(self.alphas), "betas": np.array(self.betas)},
            {"previous": self.previous, "current": self.current},
        )

    def restored(self, saved: Snapshot) -> ThreeTerms:
        """Return the recurrence that was written down."""
        alphas, betas = (tuple(saved.arrays[name].tolist()) for name in ("alphas", "betas"))
        return replace(self, **saved.vectors, alphas=alphas, betas=betas)

    @property
    def is_invariant(self) -> bool:
        """Whether the vectors so far span an invariant space, up to rounding: what is left has no direction."""
        eps = max(float(self.current.xp.finfo(array.dtype).eps) for array in self.current.arrays.values())
        return bool(self.betas) and self.betas[-1] <= eps * max(map(abs, (*self.alphas, *self.betas)))

    def step(self, multiply: Multiply) -> ThreeTerms:
        """Multiply the newest vector. Cost: a product."""
        ((q, product),) = multiply([self.current])
        beta = self.betas[-1] if self.betas else 0.0
        w = product - beta * self.previous
        alpha = q.dot(w)
        w = w - alpha * q
        length = w.norm()
        following = w / length if length > 0 else w
        return ThreeTerms(q, following, (*self.alphas, alpha), (*self.betas, length))

    def largest_magnitude(self) -> tuple[float, float]:
        """The Ritz value of largest magnitude, and its residual."""
        inner = np.array(self.betas[:-1])
        T = np.diag(np.array(self.alphas)) + np.diag(inner, 1) + np.diag(inner, -1)
        values, vectors = np.linalg.eigh(T)
        index = int(np.argmax(np.abs(values)))
        return float(values[index]), float(self.betas[-1] * abs(vectors[-1, index]))


def three_terms_until(oracle: CurvatureOracle, *, tolerance: float, max_iterations: int, seed: int) -> ThreeTerms:
    """Take steps until the residual of the Ritz value of largest magnitude is at most ``tolerance`` times this.

    Cost: at most ``max_iterations`` products; memory: four vectors.
    """
    multiply = repeated_products(oracle)

    def step(terms: ThreeTerms) -> ThreeTerms | None:
        if terms.done:
            value, residual = terms.largest_magnitude()
            if residual <= tolerance * abs(value) or terms.is_invariant:
                return None
        return terms.step(multiply)

    first = random.uniform(oracle, seed, 0)
    start = ThreeTerms(0.0 * first, first / first.norm())
    loop = Loop("Lanczos, three terms", oracle, (seed, tolerance), max_iterations, GRADIENTS_PER_PRODUCT)
    return iterate(step, start, loop)
