"""The coefficients of one block of (17), in units in which the largest are near one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates.solver.duality import Iterate

Matrix = npt.NDArray[np.float64]

_LINEAR_RANGE = 1e-120  # smaller entries, relative to the largest, could overflow products of scales


@dataclass(frozen=True, slots=True)
class Cells:
    """The matrices ``a`` and ``b``, each divided by a power of two, which is exact.

    The powers are even, so that their roots, which the value and the scales are multiplied by, are exact too.
    """

    a: Matrix
    b: Matrix
    a_exponent: int
    b_exponent: int

    @classmethod
    def of(cls, a: Matrix, b: Matrix) -> Cells:
        """Choose the units of a block; both matrices have a positive entry."""
        return cls(a, b, _even_exponent(a), _even_exponent(b))

    @property
    def have_linear_range(self) -> bool:
        """Whether the entries can be multiplied by scales without leaving the range of floating point."""
        a_least, b_least = (m.min(where=m > 0, initial=np.inf) / m.max() for m in (self.a, self.b))
        return bool(min(a_least, b_least) >= _LINEAR_RANGE)

    def linear(self) -> tuple[Matrix, Matrix]:
        """The coefficients themselves."""
        return np.ldexp(self.a, -self.a_exponent), np.ldexp(self.b, -self.b_exponent)

    def logarithms(self) -> tuple[Matrix, Matrix]:
        """Their logarithms, which no range can make overflow; minus infinity for zeros."""
        return _logarithm(self.a, self.a_exponent), _logarithm(self.b, self.b_exponent)

    def in_original_units(self, iterate: Iterate) -> Iterate:
        """The point, its value and its bound for the matrices as they were given."""
        exponent = (self.a_exponent + self.b_exponent) // 2
        shift = 0.5 * (self.b_exponent - self.a_exponent) * np.log(2)
        value, loss = (float(np.ldexp(v, exponent)) for v in (iterate.value, iterate.loss))
        return Iterate(iterate.x + shift, iterate.y, value, loss)


def _even_exponent(matrix: Matrix) -> int:
    return int(np.frexp(matrix.max())[1]) // 2 * 2


def _logarithm(matrix: Matrix, exponent: int) -> Matrix:
    mantissa, exponents = np.frexp(matrix)
    with np.errstate(divide="ignore"):
        return np.log(mantissa) + (exponents - exponent) * np.log(2)
