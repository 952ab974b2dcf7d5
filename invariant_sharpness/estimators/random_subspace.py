"""A subspace spanned by random vectors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng as random
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, machine_epsilon
from invariant_sharpness.runtime.memory import reserve

HostArray = npt.NDArray[np.float64]


class RandomSubspace:
    """The range of a matrix A whose entries are independent and normal.

    Parameters
    ----------
    oracle
        The oracle whose vectors the columns are.
    columns
        Number of columns.
    scale
        Standard deviation of the entries.
    seed
        Seed of the entries.
    """

    def __init__(self, oracle: CurvatureOracle, columns: int, scale: float, seed: int) -> None:
        self._columns = [random.normals(oracle, seed, index) * scale for index in range(columns)]
        self._gram = np.array([self.products(column) for column in self._columns])
        self._rounding = columns * machine_epsilon(oracle)

    def point(self, z: HostArray) -> ParameterVector:
        """The vector A z."""
        total = self._columns[0] * float(z[0])
        for column, coefficient in zip(self._columns[1:], z[1:], strict=True):
            total = total + column * float(coefficient)
        return total

    def products(self, vector: ParameterVector) -> HostArray:
        r"""The inner products :math:`A^T v`."""
        return np.array(vector.dots(self._columns))

    def coordinates(self, vector: ParameterVector) -> HostArray:
        r"""The shortest least-squares solution of :math:`A z = v`, which is :math:`A^+ v = (A^T A)^+ A^T v`."""
        solution = np.linalg.lstsq(self._gram, self.products(vector), rcond=self._rounding)[0]
        return np.asarray(solution, dtype=np.float64)


@contextmanager
def random_subspace(
    oracle: CurvatureOracle, columns: int, scale: float, seed: int, purpose: str
) -> Generator[RandomSubspace]:
    """A subspace whose columns count against the memory limit inside the ``with`` block.

    Raises
    ------
    ArgumentError
        If there is no column, or they do not fit into the memory limit.
    """
    if columns < 1:
        msg = f"columns={columns}, but a subspace is spanned by at least one"
        raise ArgumentError(msg)
    with reserve(oracle, columns, f"{purpose}(columns={columns})"):
        yield RandomSubspace(oracle, columns, scale, seed)
