r"""The solver of equation (17) of Tsuzuku, Sato and Sugiyama (2019), with a proven relative gap.

.. math::
    S^* = \inf_{x, y} \sum_{ij} a_{ij} e^{x_i + y_j} + b_{ij} e^{-x_i - y_j}, \qquad a, b \ge 0,

where :math:`e^{x_i} = \sigma_i^2` and :math:`e^{y_j} = \sigma_j'^2`. The problem is convex. It is split into the
connected components in which the infimum is attained (``components``), each solved by alternating closed-form sweeps
(``sweeps``) and, where these are slow, by Newton's method (``newton``); every value comes with a
lower bound (``duality``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.solvers.rows_columns.components import attained_components
from invariant_sharpness.solvers.rows_columns.duality import Cells, Iterate
from invariant_sharpness.solvers.rows_columns.newton import minimize_by_newton
from invariant_sharpness.solvers.rows_columns.sweeps import alternate

Matrix = npt.NDArray[np.float64]

_FACTORS = 300.0  # logarithms of factors whose product floating point holds

__all__ = ["RowColumnSolution", "solve"]


@dataclass(frozen=True, slots=True)
class RowColumnSolution:
    r"""The infimum of (17) for one matrix, between a value and a lower bound.

    Parameters
    ----------
    value, lower_bound
        The objective at the solution, and a bound below the infimum that duality proves.
    rows, columns
        :math:`x_i = \ln \sigma_i^2` and :math:`y_j = \ln \sigma_j'^2`. Only their sum within a component
        has a meaning. Zero in rows and columns that cost nothing.
    within_components
        The cells in which ``rows + columns`` is the minimizer. The others can be brought to zero.
    attained
        Whether a minimizer exists. If not, some scales run off to zero or infinity: those of a dead
        unit, for instance, which costs nothing.
    sweeps, newton_steps
        The number of sweeps and of Newton steps, over all components.
    """

    value: float
    lower_bound: float
    rows: Matrix
    columns: Matrix
    within_components: npt.NDArray[np.bool_]
    attained: bool
    sweeps: int
    newton_steps: int

    @property
    def gap(self) -> float:
        """The relative gap, ``(value - lower_bound) / value``: a proven bound of the relative error."""
        return (self.value - self.lower_bound) / self.value if self.value > 0 else 0.0

    @property
    def variances(self) -> Matrix:
        r""":math:`\sigma_i^2 {\sigma_j'}^2` of each cell, as a product of two vectors unless these overflow; zero in cells that can be brought to zero."""
        longest = max(float(np.abs(scales).max(initial=0.0)) for scales in (self.rows, self.columns))
        if longest < _FACTORS:
            cells = np.exp(self.rows)[:, None] * np.exp(self.columns)
        else:
            cells = np.exp(self.rows[:, None] + self.columns)
        return np.where(self.within_components, cells, 0.0)


def solve(a: Matrix, b: Matrix, *, tolerance: float = 1e-12) -> RowColumnSolution:
    r"""Solve (17) for one matrix of curvatures ``a`` and one of squared weights ``b``.

    Parameters
    ----------
    a, b
        Nonnegative and finite, of equal shape ``(rows, columns)``: :math:`h_{ij}` and :math:`W_{ij}^2 / (2\lambda)`, for instance.
    tolerance
        The relative gap at which to stop; the default is far above rounding, and below every error of an estimated curvature.

    Returns
    -------
    RowColumnSolution
        The value with its lower bound, and the scales. Cost: no gradient; four matrix-vector products a sweep.

    Raises
    ------
    ArgumentError
        If ``a`` and ``b`` are not two finite, nonnegative matrices of the same shape.

    Examples
    --------
    One cell: :math:`a\, t + b / t` is least at :math:`t = \sqrt{b / a}`, where it is :math:`2 \sqrt{ab}`.

    >>> import numpy as np
    >>> solution = solve(np.array([[4.0]]), np.array([[9.0]]))
    >>> round(solution.value, 12), solution.gap <= 1e-12
    (12.0, True)
    """
    _check(a, b)
    rows, columns = np.zeros(a.shape[0]), np.zeros(a.shape[1])
    value = lower = 0.0
    sweeps = steps = 0
    within_components = np.zeros(a.shape, dtype=bool)
    for component in attained_components(a, b):
        iterate, own_sweeps, own_steps = _solve_component(component.of(a), component.of(b), tolerance)
        within_components[np.ix_(component.rows, component.columns)] = True
        rows[component.rows], columns[component.columns] = iterate.x, iterate.y
        value, lower = value + iterate.value, lower + iterate.value - iterate.loss
        sweeps, steps = sweeps + own_sweeps, steps + own_steps
    # Attained if no cell lies between two components.
    between = ~within_components
    attained = not (a[between].any() or b[between].any())
    return RowColumnSolution(value, lower, rows, columns, within_components, attained, sweeps, steps)


def _solve_component(a: Matrix, b: Matrix, tolerance: float) -> tuple[Iterate, int, int]:
    cells = Cells.of(a, b)
    iterate, sweeps = alternate(cells, tolerance)
    steps = 0
    if not iterate.gap <= tolerance:
        iterate, steps = minimize_by_newton(cells, iterate, tolerance)
    return cells.in_original_units(iterate), sweeps, steps


def _check(a: Matrix, b: Matrix) -> None:
    if a.ndim != 2 or a.shape != b.shape:
        msg = f"a has shape {a.shape} and b {b.shape}, but both are matrices of the same shape (rows, columns)"
        raise ArgumentError(msg)
    for name, matrix in (("a", a), ("b", b)):
        if matrix.size and not 0 <= matrix.min() <= matrix.max() < np.inf:
            msg = f"{name} has entries that are negative or not finite: clip curvatures at zero first"
            raise ArgumentError(msg)
