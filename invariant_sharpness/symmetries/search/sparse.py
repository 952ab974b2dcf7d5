"""Generators that only the null space of all units shows, brought to a form that can be read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from invariant_sharpness.symmetries.generators import Generator
from invariant_sharpness.symmetries.search.null_space import rationalize, reduced_rows
from invariant_sharpness.symmetries.search.overlaps import trivial_rows
from invariant_sharpness.symmetries.search.refinement import Search
from invariant_sharpness.symmetries.search.remainder import Remainder

_LARGEST_SUPPORT = 400
_SWEEPS = 2


def sparse_remainder(rest: Remainder, search: Search) -> Iterator[Generator]:
    """Yield generators that span what is left, and perhaps some that are known.

    A trivial direction in which a pivot was chosen may stand in for its pivot: it is subtracted as often as makes the sum of magnitudes least.
    Where the variables that are left are few, the sparsest generators among them are found by linear programs.
    """
    equations = search.equations
    count = len(equations.variables)
    vectors = np.zeros((rest.basis.shape[1], count))
    vectors[:, rest.variables] = (rest.basis / equations.sizes[rest.variables][:, None]).T
    trivial = [(np.array(list(row)), np.array(list(row.values()))) for row in trivial_rows(equations)]
    for vector in rationalize(reduced_rows(vectors), search.tolerance**0.5):
        sparse = vector.copy()
        for numbers, signs in trivial * _SWEEPS:
            sparse[numbers] -= signs * np.median(signs * sparse[numbers])
        variables = np.flatnonzero(np.abs(sparse) > search.tolerance**0.5)
        if len(variables) <= _LARGEST_SUPPORT:
            yield from search.among(variables)
        else:
            yield search.generator(sparse)
