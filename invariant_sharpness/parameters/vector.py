"""A vector of parameters: one array per group, never flattened into one.

A sharded or device-resident array stays where it is; only reductions leave it, as Python floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import frexp, fsum, inf, sqrt
from typing import Any

import numpy as np

Array = Any
"""An array of the oracle's own library."""

_LEAST_SQUARE = 1e-24
"""A smaller sum of squares may have lost some in single precision, whose smallest number is 1e-38: of 1e7 entries, 1e-7 of the sum."""


@dataclass(frozen=True, slots=True, eq=False)
class ParameterVector:
    """Arrays by group name, in the order of the oracle's groups, with elementwise arithmetic.

    Parameters
    ----------
    xp
        Array API namespace of the arrays.
    arrays
        One array per group, in the parameter's own shape.

    Examples
    --------
    >>> import numpy as np
    >>> v = ParameterVector(np, {"weight": np.array([[3.0, 4.0]]), "bias": np.array([0.0])})
    >>> (2 * v).dot(v), v.norm(), v.only(["bias"]).norm()
    (50.0, 5.0, 0.0)
    """

    xp: Any
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __add__(self, other: ParameterVector) -> ParameterVector:
        return self._with({name: a + other[name] for name, a in self.arrays.items()})

    def __sub__(self, other: ParameterVector) -> ParameterVector:
        return self._with({name: a - other[name] for name, a in self.arrays.items()})

    def __mul__(self, other: ParameterVector | float) -> ParameterVector:
        if isinstance(other, ParameterVector):
            return self._with({name: a * other[name] for name, a in self.arrays.items()})
        return self._with({name: a * other for name, a in self.arrays.items()})

    __rmul__ = __mul__

    def __truediv__(self, other: ParameterVector | float) -> ParameterVector:
        if isinstance(other, ParameterVector):
            return self._with({name: a / other[name] for name, a in self.arrays.items()})
        return self._with({name: a / other for name, a in self.arrays.items()})

    def __neg__(self) -> ParameterVector:
        return self._with({name: -a for name, a in self.arrays.items()})

    def __abs__(self) -> ParameterVector:
        return self.map(self.xp.abs)

    def map(self, function: Callable[[Array], Array]) -> ParameterVector:
        """Apply ``function`` to the array of every group."""
        return self._with({name: function(a) for name, a in self.arrays.items()})

    @property
    def form(self) -> tuple[tuple[str, ...], ...]:
        """Names, shapes, types and devices of the arrays: vectors of one form can be added."""
        arrays = self.arrays.items()
        return tuple((name, str(a.shape), str(a.dtype), str(getattr(a, "device", ""))) for name, a in arrays)

    def only(self, names: Iterable[str]) -> ParameterVector:
        """Keep the named groups and put zeros in all others."""
        kept = set(names)
        return self._with({k: a if k in kept else self.xp.zeros_like(a) for k, a in self.arrays.items()})

    def dot(self, other: ParameterVector) -> float:
        """Return the inner product. The host reads once."""
        return self.dots([other])[0]

    def dots(self, others: Sequence[ParameterVector]) -> list[float]:
        """Return the inner products with all these vectors. The host reads once."""
        sums = iter(read_numbers(self.xp, [number for other in others for number in self._sums_by_group(other)]))
        return [fsum(islice(sums, len(self.arrays))) for _ in others]

    def dot_by_group(self, other: ParameterVector) -> dict[str, float]:
        """Return the inner product of each group. The host reads once."""
        return dict(zip(self.arrays, read_numbers(self.xp, self._sums_by_group(other)), strict=True))

    def norm(self) -> float:
        """Return the Euclidean norm. The host reads once, and once more where squares are outside the range of single precision."""
        with np.errstate(over="ignore"):
            squared = self.dot(self)
        return sqrt(squared) if _LEAST_SQUARE < squared < inf else self._scaled_norm()

    def _scaled_norm(self) -> float:
        """The norm with the largest entry scaled to about one, by powers of two in halves: each of them is a number of any precision."""
        sizes = [self.xp.max(self.xp.abs(a)) for a in self.arrays.values() if 0 not in a.shape]
        largest = float(np.max(read_numbers(self.xp, sizes), initial=0.0)) if sizes else 0.0
        if not 0 < largest < inf:
            return largest
        exponent = frexp(largest)[1]
        half, rest = exponent // 2, exponent - exponent // 2
        scaled = self * 2.0**-half * 2.0**-rest
        return sqrt(scaled.dot(scaled)) * 2.0**half * 2.0**rest

    def _sums_by_group(self, other: ParameterVector) -> list[Array]:
        """Sums of products: ``vecdot`` and ``vector_norm`` lose digits in float32."""
        return [self.xp.sum(a * other[name]) for name, a in self.arrays.items()]

    def _with(self, arrays: Mapping[str, Array]) -> ParameterVector:
        return ParameterVector(self.xp, arrays)


def read_numbers(xp: Any, numbers: Sequence[Array]) -> list[float]:
    """Transfer arrays of shape ``()`` to the host, in one piece for each device that has some of them."""
    if all(isinstance(number, (np.generic, np.ndarray)) for number in numbers):
        return list(map(float, numbers))
    places = [number.device for number in numbers]
    found = {
        place: iter(xp.stack([n for n, at in zip(numbers, places, strict=True) if at == place]).tolist())
        for place in dict.fromkeys(places)
    }
    return [float(next(found[place])) for place in places]
