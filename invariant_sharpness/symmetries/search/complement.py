"""A sparse orthonormal basis of what is orthogonal to sparse vectors.

Generators of single units have few variables and hardly share them. So the variables fall into small components, each with the vectors on it,
and the complement is that of each component: a dense factorization of a few rows, in the place of one of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import block_diag, coo_array, csc_array
from scipy.sparse.csgraph import connected_components

from invariant_sharpness.symmetries.scaling_variables import HostArray, Numbers

Component = tuple[Numbers, Numbers]
"""The numbers of variables, and of the vectors on them."""


def sparse_complement(vectors: Any) -> Any:
    """Return orthonormal columns that span what is orthogonal to the independent columns of a sparse matrix.

    Cost: the third power of the number of variables for each component of vectors that share some; nothing for a variable that no vector has.
    """
    components = list(shared_components(vectors))
    blocks = [_complement(vectors, own, columns) for own, columns in components]
    order = np.concatenate([own for own, _ in components])
    return block_diag(blocks, format="csr")[np.argsort(order)]


def shared_components(vectors: Any) -> Iterator[Component]:
    """Yield the components of the variables, the rows, that the vectors, the columns, connect."""
    count, pairs = vectors.shape[0], coo_array(vectors)
    total = sum(vectors.shape)
    graph = coo_array((np.ones(pairs.nnz), (pairs.row, count + pairs.col)), shape=(total, total))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        yield members[members < count], members[members >= count] - count


def _complement(vectors: Any, own: Numbers, columns: Numbers) -> HostArray:
    if not len(columns):
        return np.ones((1, 1))
    block = csc_array(vectors)[:, columns].tocsr()[own].toarray()
    complete: HostArray = np.linalg.qr(block, mode="complete")[0]
    return complete[:, len(columns) :]
