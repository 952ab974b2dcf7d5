"""The connected components of (17), in which the infimum is attained.

Let z = x_i + y_j move along a line. A cell with a > 0 stays bounded only if z does not grow, a cell
with b > 0 only if z does not fall. Draw an arrow from row i to column j for a_ij > 0 (x_i <= -y_j) and
from j to i for b_ij > 0 (-y_j <= x_i). Along a cycle all potentials are tied to each other. So:

* within a strongly connected component nothing can run off, and the infimum is attained;
* a cell between two components can be brought to zero by moving them apart, at no cost.

The infimum of the whole is therefore the sum of the infima of the components, and it is attained
exactly if no cell lies between two of them. Dead units, zero rows and columns, separate channel groups and
patterns without total support are all cases of this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Component:
    """Rows and columns that are tied to each other."""

    rows: Indices
    columns: Indices

    def of(self, matrix: Matrix) -> Matrix:
        """Return its cells; the matrix itself if these are all."""
        whole = matrix.shape == (len(self.rows), len(self.columns))
        return matrix if whole else matrix[np.ix_(self.rows, self.columns)]


def attained_components(a: Matrix, b: Matrix) -> list[Component]:
    """List the strongly connected components that have rows and columns."""
    row_labels, column_labels = _labels(a > 0, b > 0)
    return [
        Component(np.flatnonzero(row_labels == label), np.flatnonzero(column_labels == label))
        for label in np.intersect1d(row_labels, column_labels)
    ]


def _labels(rises: Mask, falls: Mask) -> tuple[Indices, Indices]:
    """Label the component of each row and of each column."""
    single = _single_component(rises, falls)
    if single is not None:
        return single
    # Arrows from rows to columns where a > 0, and back where b > 0.
    rows, columns = rises.shape
    up, down = np.nonzero(rises), np.nonzero(falls)
    start = np.concatenate([up[0], rows + down[1]])
    end = np.concatenate([rows + up[1], down[0]])
    arrows = csr_array(coo_array((np.ones(start.size), (start, end)), shape=(rows + columns, rows + columns)))
    _, labels = connected_components(arrows, directed=True, connection="strong")
    return labels[:rows].astype(np.intp), labels[rows:].astype(np.intp)


def _single_component(rises: Mask, falls: Mask) -> tuple[Indices, Indices] | None:
    """Label the usual case of one component without a graph; None if it is not this case.

    Rows and columns without both kinds of cells lie on no cycle. If the cells that are of both
    kinds tie all others together, these are the one component.
    """
    # Rows and columns that can lie on a cycle.
    live_rows = rises.any(axis=1) & falls.any(axis=1)
    live_columns = rises.any(axis=0) & falls.any(axis=0)
    # Spread from one row over the cells that are of both kinds.
    tied = rises & falls
    rows = np.zeros_like(live_rows)
    rows[np.argmax(tied.any(axis=1))] = True
    while True:
        columns = tied[rows].any(axis=0)
        reached = np.asarray((tied & columns).any(axis=1))
        if (reached == rows).all():
            break
        rows = reached
    if (rows != live_rows).any() or (columns != live_columns).any():
        return None
    # The one component is number 0; every other row and column stands alone.
    count = rises.shape[0]
    return (
        np.where(rows, 0, 1 + np.arange(count)),
        np.where(columns, 0, 1 + count + np.arange(rises.shape[1])),
    )
