r"""Alternating minimization of (17): each half sweep is exact and in closed form.

For fixed y the best row scale is :math:`e^{2 x_i} = \sum_j b_{ij} e^{-y_j} / \sum_j a_{ij} e^{y_j}`, and likewise for the columns.
With u = e^x and v = e^y the sums are matrix-vector products.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from invariant_sharpness.solvers.rows_columns.duality import Cells, Iterate, rank_one_loss

Matrix = npt.NDArray[np.float64]
Rounded = npt.NDArray[np.floating[Any]]
"""In single or in double precision."""

_MAX_SWEEPS = 40
_LARGE = 2**14  # entries from which on a look at the matrix takes longer than what surrounds it
_CACHED = 2**15  # entries that stay in cache
_SINGLE_PRECISION = 1e-12  # the gap that float32 reaches: the error of the value is the square of that of the scales


class Sweep(NamedTuple):
    """The number of a sweep, the scales after it, the objective, and what is left of the row sums of mu; the columns are balanced."""

    number: int
    u: Rounded
    v: Rounded
    value: float
    imbalance: Rounded
    expected: float
    """The gap that the imbalance lets expect."""


def alternate(cells: Cells, tolerance: float) -> tuple[Iterate, int]:
    """Sweep until the relative gap is at most ``tolerance``, or progress is slow.

    Cost: four matrix-vector products a sweep, those of a large matrix in single precision but for the last; and one more look at the matrix for the bound.
    """
    if cells.have_range_of(np.float64):
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            a, b = cells.linear()
            v, before = _start(cells, a, b)
            iterate, sweeps = _alternate(a, b, v, tolerance)
        if np.isfinite(iterate.value):
            return iterate, before + sweeps
    return _alternate_in_logarithms(*cells.logarithms(), tolerance)


def _start(cells: Cells, a: Matrix, b: Matrix) -> tuple[Rounded, int]:
    """Return the column scales to begin with, and after how many sweeps: those of a large matrix are what single precision comes to."""
    alone = np.sqrt(b.sum(axis=0) / a.sum(axis=0))
    if a.size < _LARGE or not cells.have_range_of(np.float32):
        return alone, 0
    sweep = _last(_sweeps(a.astype(np.float32), b.astype(np.float32), alone.astype(np.float32)), _SINGLE_PRECISION)
    usable = np.isfinite(sweep.v).all() and sweep.v.all()
    return (sweep.v.astype(np.float64), sweep.number) if usable else (alone, 0)


def _last(sweeps: Iterator[Sweep], gap: float) -> Sweep:
    """Return the first sweep after which so small a gap is expected, or else the last one."""
    sweep = next(sweeps)
    while sweep.expected > gap and (further := next(sweeps, None)) is not None:
        sweep = further
    return sweep


def _alternate(a: Matrix, b: Matrix, v: Rounded, tolerance: float) -> tuple[Iterate, int]:
    iterate, sweeps = Iterate(np.zeros(len(a)), np.log(v), np.inf, np.inf), 0
    for sweep in _sweeps(a, b, v):
        worthwhile = sweep.expected <= tolerance / 4
        loss = rank_one_loss(_gammas(a, b, sweep), sweep.imbalance) if worthwhile else np.inf
        iterate, sweeps = Iterate(np.log(sweep.u), np.log(sweep.v), sweep.value, loss), sweep.number
        if iterate.gap <= tolerance:
            break
    return iterate, sweeps


def _sweeps(a: Rounded, b: Rounded, v: Rounded) -> Iterator[Sweep]:
    """Sweep while that is fast: a slow linear rate is left to Newton."""
    rises, falls = a @ v, b @ (1 / v)
    previous = np.inf
    for number in range(1, _MAX_SWEEPS + 1):
        # Best rows, then best columns.
        u = np.sqrt(falls / rises)
        v = np.sqrt(((1 / u) @ b) / (u @ a))
        # Value, and the gap that the imbalance of the rows lets expect.
        rises, falls = a @ v, b @ (1 / v)
        rising, falling = u * rises, falls / u
        value = float(rising.sum() + falling.sum())
        expected = float(np.sum((rising - falling) ** 2 / (rising + falling))) / value
        yield Sweep(number, u, v, value, rising - falling, expected)
        if expected > 0.5 * previous and number > 4:
            return
        previous = expected


def _gammas(a: Matrix, b: Matrix, sweep: Sweep) -> Iterator[tuple[slice, Matrix]]:
    """Yield the cells of some rows at a time, which stay in cache."""
    step = max(1, _CACHED // len(sweep.v))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        scale = sweep.u[rows, None] * sweep.v
        yield rows, a[rows] * scale + b[rows] / scale


def _alternate_in_logarithms(log_a: Matrix, log_b: Matrix, tolerance: float) -> tuple[Iterate, int]:
    """Sweep in logarithms, for entries of a range that products of scales would overflow."""
    x = np.zeros(log_a.shape[0])
    y = 0.5 * (logsumexp(log_b, axis=0) - logsumexp(log_a, axis=0))
    value, sweep = np.inf, 0
    for sweep in range(1, _MAX_SWEEPS + 1):
        # Best rows, then best columns.
        x = 0.5 * (logsumexp(log_b - y, axis=1) - logsumexp(log_a + y, axis=1))
        y = 0.5 * (logsumexp(log_b - x[:, None], axis=0) - logsumexp(log_a + x[:, None], axis=0))
        # Value and bound.
        z = x[:, None] + y
        rising, falling = np.exp(log_a + z), np.exp(log_b - z)
        value = float(rising.sum() + falling.sum())
        loss = rank_one_loss([(slice(None), rising + falling)], (rising - falling).sum(axis=1))
        if loss <= tolerance * value:
            return Iterate(x, y, value, loss), sweep
    return Iterate(x, y, value, np.inf), sweep
