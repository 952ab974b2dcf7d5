"""The ends of the spectrum: extreme eigenvalues of the Hessian, by Lanczos' method in blocks with full reorthogonalization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.deprecation import renamed
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.krylov import Indices, KrylovSpace, grown
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, repeated_products
from invariant_sharpness.estimators.three_term_lanczos import three_terms_until
from invariant_sharpness.estimators.warm_starts import WarmStart
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.loop import Loop, iterate
from invariant_sharpness.runtime.memory import vectors_within_limit

_FEW = 64
"""With room for fewer vectors, those of the Krylov space are not kept where nobody asks for them."""


@dataclass(frozen=True, slots=True)
class ExtremeEigenvalue:
    r"""A Ritz value with its residual :math:`\|H v - \lambda v\|`: some eigenvalue is that close to it."""

    value: float
    residual: float
    steps: int
    converged: bool


@dataclass(frozen=True, slots=True)
class Eigenpair:
    r"""A Ritz value, its vector of norm 1, and the residual :math:`\|H v - \lambda v\|`: some eigenvalue is that close.

    Parameters
    ----------
    value
        The Ritz value.
    vector
        Its vector.
    residual
        The norm of what the pair lacks.
    converged
        Whether the residual reached the tolerance.

    Examples
    --------
    >>> from invariant_sharpness_numpy import quadratic
    >>> pair = eigenpairs(quadratic([[3.0, 0.0], [0.0, -1.0]], [[1.0, 1.0]])).largest[0]
    >>> round(pair.value, 6), pair.converged
    (3.0, True)
    """

    value: float
    vector: ParameterVector = field(repr=False)
    residual: float
    converged: bool

    def __str__(self) -> str:
        state = "" if self.converged else ", NOT CONVERGED"
        return f"eigenvalue {self.value:.6g} (residual {self.residual:.0e}{state})"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, without the vector."""
        return {"value": self.value, "residual": self.residual, "converged": self.converged}


@dataclass(frozen=True, slots=True)
class Eigenpairs:
    """The ends of the spectrum.

    Parameters
    ----------
    largest
        The largest eigenvalues, the very largest first.
    smallest
        The smallest ones, which can be negative, the very smallest first.
    products
        Number of Hessian-vector products that it took.

    Examples
    --------
    >>> from invariant_sharpness_numpy import quadratic
    >>> found = eigenpairs(quadratic([[3.0, 0.0], [0.0, -1.0]], [[1.0, 1.0]]))
    >>> [round(pair.value, 6) for pair in (*found.largest, *found.smallest)], found.converged
    ([3.0, -1.0], True)
    """

    largest: tuple[Eigenpair, ...]
    smallest: tuple[Eigenpair, ...]
    products: int

    @property
    def converged(self) -> bool:
        """Whether all residuals reached the tolerance."""
        return all(pair.converged for pair in (*self.largest, *self.smallest))

    def __str__(self) -> str:
        ends = {"largest": self.largest, "smallest": self.smallest}
        words = [f"{name} {', '.join(f'{p.value:.6g}' for p in pairs)}" for name, pairs in ends.items() if pairs]
        worst = max(pair.residual for pair in (*self.largest, *self.smallest))
        state = "" if self.converged else ", NOT CONVERGED"
        return f"eigenvalues: {'; '.join(words)} (residuals ≤ {worst:.0e}{state}; {self.products} products)"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, without the vectors."""
        return {
            "largest": [pair.to_dict() for pair in self.largest],
            "smallest": [pair.to_dict() for pair in self.smallest],
            "products": self.products,
            "converged": self.converged,
        }


@renamed(products="num_matvecs")
@checked_numbers
def eigenpairs(
    oracle: CurvatureOracle,
    *,
    largest: int = 1,
    smallest: int = 1,
    tolerance: float = 1e-6,
    num_matvecs: int = 1000,
    seed: int = 0,
    start: WarmStart | None = None,
) -> Eigenpairs:
    r"""The largest and the smallest eigenvalues of the Hessian, with their vectors and residuals.

    .. math:: H v \approx \lambda v, \qquad \text{residual} = \lVert H v - \lambda v \rVert, \quad \lVert v \rVert = 1

    Blocks are as wide as the larger of both numbers, so that a multiple eigenvalue is found as often as it occurs; where a
    block finds nothing new, random directions go on. A pair has converged if its residual is at most ``tolerance``
    times the largest magnitude. A residual r means an error of the eigenvalue of at most r, and of about ``r**2 / gap``
    once it is isolated. That nothing more extreme is missing is not proven, as with every Krylov method.

    Invariances: those of the eigenvalues, which are orthogonal changes of the parameters; on a
    :class:`~invariant_sharpness.Scaled` oracle with an equivariant scale, rescalings too.

    Cost: at most ``num_matvecs`` Hessian-vector products, in blocks. Memory: as many vectors, or half of what fits into the
    memory limit, but four times the pairs that were asked for in any case: there the method restarts with the best half
    (Wu and Simon 2000).
    Source: Lanczos (1950), Golub and Underwood (1977).

    Parameters
    ----------
    oracle
        The oracle with the Hessian.
    largest, smallest
        How many pairs of each end. The smallest eigenvalues can be negative.
    tolerance
        The largest residual of a pair that has converged, relative to the largest magnitude of an eigenvalue.
    num_matvecs
        Number of Hessian-vector products, at most.
    seed
        Seed of the random directions with which the blocks begin.
    start
        The eigenvector of an earlier call, near which the first block begins, in the place of one of its random directions. This call leaves its own there: that of
        the largest eigenvalue, or of the smallest if no largest one is asked for. It saves products where a single pair is asked for.

    Returns
    -------
    Eigenpairs
        Both ends, and how many products they took.

    Raises
    ------
    ArgumentError
        If no pair is asked for, or more than there are parameters or than the products can find.

    Examples
    --------
    A diagonal Hessian has its entries as eigenvalues:

    >>> from invariant_sharpness_numpy import quadratic
    >>> found = eigenpairs(quadratic([[3.0, 0.0], [0.0, -1.0]], [[1.0, 1.0]]))
    >>> round(found.largest[0].value, 6), round(found.smallest[0].value, 6)
    (3.0, -1.0)
    """
    width, asked = max(largest, smallest), largest + smallest
    size = sum(group.size for group in oracle.groups)
    findable = min(size, num_matvecs // max(width, 1) * width)
    if min(largest, smallest) < 0 or not 1 <= asked <= findable:
        msg = (
            f"largest={largest} and smallest={smallest} of {size} eigenvalues, with num_matvecs={num_matvecs} in blocks of "
            f"{width}: ask for 1 to {findable} in all, or give more products"
        )
        raise ArgumentError(msg)

    def converged(space: KrylovSpace) -> bool:
        values, _, residuals = space.ritz_pairs()
        ends = _ends(len(space), smallest, largest)
        return len(space) >= asked and bool(residuals[ends].max() <= tolerance * np.abs(values).max())

    goal = f"eigenpairs to {tolerance}"
    space = _space_until(converged, oracle, smallest, largest, num_matvecs // width, seed, goal, start)
    pairs = _pairs_at_ends(space, smallest, largest, tolerance)
    if start is not None:
        start.vector = pairs[-1 if largest else 0].vector
    return Eigenpairs(pairs[smallest:][::-1], pairs[:smallest], space.products)


def largest_magnitude_eigenvalue(
    oracle: CurvatureOracle, *, tolerance: float, max_iterations: int, seed: int, start: WarmStart | None = None
) -> ExtremeEigenvalue:
    """Find the eigenvalue of largest magnitude, up to a residual of at most ``tolerance * abs(value)``.

    Cost: at most ``max_iterations`` Hessian-vector products; memory and ``start`` as for :func:`eigenpairs`, but four vectors where there is room
    for few and no ``start`` wants the eigenvector: restarts would take more products.
    """
    if start is None and vectors_within_limit(oracle) // 2 < min(_FEW, max_iterations):
        return _by_three_terms(oracle, tolerance, max_iterations, seed)

    def largest_of(space: KrylovSpace) -> ExtremeEigenvalue:
        if not len(space):
            return ExtremeEigenvalue(0.0, np.inf, 0, converged=False)
        values, _, residuals = space.ritz_pairs()
        index = int(np.argmax(np.abs(values)))
        value, residual = float(values[index]), float(residuals[index])
        return ExtremeEigenvalue(value, residual, space.products, residual <= tolerance * abs(value))

    goal = f"largest magnitude to {tolerance}"
    space = _space_until(lambda space: largest_of(space).converged, oracle, 1, 1, max_iterations, seed, goal, start)
    if start is not None and len(space):
        values, coordinates, _ = space.ritz_pairs()
        start.vector = space.vector(coordinates[:, np.argmax(np.abs(values))])
    return largest_of(space)


def _by_three_terms(oracle: CurvatureOracle, tolerance: float, max_iterations: int, seed: int) -> ExtremeEigenvalue:
    found = three_terms_until(oracle, tolerance=tolerance, max_iterations=max_iterations, seed=seed)
    if not found.done:
        return ExtremeEigenvalue(0.0, np.inf, 0, converged=False)
    value, residual = found.largest_magnitude()
    converged = residual <= tolerance * abs(value) or found.is_invariant
    return ExtremeEigenvalue(value, residual, found.done, converged)


def _space_until(
    converged: Callable[[KrylovSpace], bool],
    oracle: CurvatureOracle,
    smallest: int,
    largest: int,
    max_iterations: int,
    seed: int,
    goal: str,
    start: WarmStart | None,
) -> KrylovSpace:
    """Grow a space block by block until its ends have converged, and restart it where it does not fit into memory."""
    asked, width = smallest + largest, max(smallest, largest)
    capacity = max(vectors_within_limit(oracle) // 2, 2 * (asked + width))
    low = capacity // 2 * smallest // asked
    multiply = repeated_products(oracle)

    def step(space: KrylovSpace) -> KrylovSpace | None:
        if converged(space):
            return None
        if len(space) + width > capacity:
            space.restart(_ends(len(space), low, capacity // 2 - low))
        return grown(space, width, seed, multiply)

    first = () if start is None else start.directions(oracle, seed)
    settings = (smallest, largest, capacity, seed, goal, *first)
    loop = Loop("Lanczos", oracle, settings, total=max_iterations, gradients=GRADIENTS_PER_PRODUCT * width)
    return iterate(step, KrylovSpace(oracle, first), loop)


def _pairs_at_ends(space: KrylovSpace, smallest: int, largest: int, tolerance: float) -> tuple[Eigenpair, ...]:
    values, coordinates, residuals = space.ritz_pairs()
    accepted = tolerance * np.abs(values).max()
    return tuple(
        Eigenpair(
            float(values[i]), space.vector(coordinates[:, i]), float(residuals[i]), bool(residuals[i] <= accepted)
        )
        for i in _ends(len(space), smallest, largest)
    )


def _ends(count: int, smallest: int, largest: int) -> Indices:
    """The first and the last ones of so many indices."""
    return np.r_[:smallest, count - largest : count]
