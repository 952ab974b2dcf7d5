r"""What no search among groups has found: the null space in which every exponent is an unknown of its own.

Trivial directions and the generators that are known span most of it. In coordinates of their complement only what is missing is left, often nothing:
one triangular factorization of as many columns as there are exponents beside one for each of them tells. What there is gets a
sparse form by elimination, and by what :func:`lightest` subtracts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import qr
from scipy.sparse import csc_array, csr_array, hstack
from scipy.sparse.linalg import norm, splu

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers
from invariant_sharpness.symmetries.search.complement import shared_components, sparse_complement
from invariant_sharpness.symmetries.search.equations import Equations
from invariant_sharpness.symmetries.search.independence import Elimination, as_columns
from invariant_sharpness.symmetries.search.levels import Tolerances, costs_of
from invariant_sharpness.symmetries.search.lightest import lightest
from invariant_sharpness.symmetries.search.null_space import NullSpace, solve_null_space
from invariant_sharpness.symmetries.search.overlaps import trivial_rows
from invariant_sharpness.symmetries.search.sparse_basis import rationalize

_MOST_IN_NARROW = 256
_ZERO = 1e-9


class Known(NamedTuple):
    """Independent vectors that are known to be solutions.

    Parameters
    ----------
    trivial, generators
        Exponents of the variables that act, as the columns of sparse matrices.
    pivots
        A variable for each of them: there is one combination of the vectors that has given values at these.
    """

    trivial: Any
    generators: Any
    pivots: Numbers

    @property
    def vectors(self) -> Any:
        """All of them, as columns."""
        return hstack([self.trivial, self.generators], format="csc")


class Remainder(NamedTuple):
    """The solutions beside those that are known.

    Parameters
    ----------
    vectors
        Exponents of all variables, a row for each solution.
    trivial
        Trivial directions, as the columns of a sparse matrix of all variables.
    gap
        The gap of the null space.
    """

    vectors: HostArray
    trivial: Any
    gap: float

    def clusters(self, most: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Split into variables, and the numbers of the vectors on them, that share none with others.

        A trivial direction brings its other variables, with which a vector may be sparser, unless they are more than ``most`` in all.
        """
        columns = csc_array(self.vectors.T)
        without = [found for found in shared_components(columns) if len(found[1])]
        for variables, numbers in shared_components(hstack([columns, self.trivial], format="csc")):
            rows = numbers[numbers < len(self.vectors)]
            if len(rows) and len(variables) <= most:
                yield variables, rows
            else:
                yield from (found for found in without if found[1][0] in rows)


def solutions(generators: Sequence[Generator], equations: Equations, zero: float) -> list[Generator]:
    """Return those that solve the equations up to ``zero``."""
    vectors = as_columns([generator.exponents for generator in generators], len(equations.variables))
    residuals = np.linalg.norm(vectors.T @ equations.coefficients.T, axis=1)
    scaled = norm(equations.sizes[:, None] * vectors, axis=0)
    bounds = zero * len(equations.coefficients) ** 0.5 * scaled
    return [generator for generator, holds in zip(generators, residuals < bounds, strict=True) if holds]


def find_remainder(equations: Equations, known: Sequence[Generator], tolerances: Tolerances) -> Remainder:
    """Find what solves the equations beside trivial directions and the generators that are known.

    Memory: once more that of the equations, and four square matrices of the number of exponents that act, less one for each known vector.
    """
    numbers = np.flatnonzero(equations.acting)
    vectors = np.zeros((0, len(equations.variables)))
    trivial = as_columns(list(trivial_rows(equations)), len(equations.variables))
    if not len(numbers):
        return Remainder(vectors, trivial, np.inf)
    held = _known_vectors(equations, known, numbers)
    space = _null_space(equations, held, numbers, tolerances.zero)
    if space.basis.shape[1]:
        rows = rationalize(_reduced(_without_pivots(space.basis, held).T), tolerances.fraction)
        vectors = np.zeros((len(rows), len(equations.variables)))
        vectors[:, numbers] = lightest(rows, held.trivial, held.generators, costs_of(equations, list(numbers[:, None])))
    return Remainder(vectors, trivial, space.gap)


def _known_vectors(equations: Equations, known: Sequence[Generator], numbers: Numbers) -> Known:
    place = {int(number): k for k, number in enumerate(numbers)}
    generators = [{place[u]: a for u, a in generator.exponents.items() if u in place} for generator in known]
    trivial = ({place[u]: a for u, a in row.items()} for row in trivial_rows(equations))
    elimination = Elimination(Counter(u for generator in generators for u in generator))
    # Independent ones, so that each has a pivot.
    chosen = [[row for row in rows if elimination.add(dict(row))] for rows in (trivial, generators)]
    matrices = [as_columns(rows, len(numbers)) for rows in chosen]
    return Known(matrices[0], matrices[1], np.array(elimination.pivots, dtype=np.intp))


def _null_space(equations: Equations, held: Known, numbers: Numbers, zero: float) -> NullSpace:
    """Compute the null space orthogonal to what is known: to vectors of few variables by other coordinates, to others by rows of their own."""
    sizes = equations.sizes[numbers, None]
    scaled = csc_array(held.vectors * sizes)
    narrow = np.diff(scaled.indptr) <= _MOST_IN_NARROW
    complement = sparse_complement(scaled[:, narrow])
    acting = csr_array((1 / sizes[:, 0], (numbers, np.arange(len(numbers)))), (len(equations.variables), len(numbers)))
    matrix = ((acting @ complement).T @ equations.coefficients.T).T
    space = solve_null_space(matrix, zero, complement.T @ scaled[:, ~narrow].toarray())
    return space._replace(basis=complement @ space.basis / sizes)


def _without_pivots(basis: HostArray, held: Known) -> HostArray:
    """Subtract what makes the exponents of all pivots zero: then equivalent vectors are equal."""
    if not len(held.pivots):
        return basis
    at_pivots = splu(held.vectors.tocsr()[held.pivots].tocsc())
    return np.asarray(basis - held.vectors @ at_pivots.solve(basis[held.pivots]))


def _reduced(rows: HostArray) -> HostArray:
    """Combine the rows so that each has a one where all others have a zero."""
    pivots = qr(rows, mode="r", pivoting=True)[1][: len(rows)]
    return np.asarray(np.linalg.solve(rows[:, pivots], rows), dtype=np.float64)
