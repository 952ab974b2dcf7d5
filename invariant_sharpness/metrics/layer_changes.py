"""What a given change of the parameters does to the loss, layer by layer: rounding, pruning, merging."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from invariant_sharpness.arguments import checked_numbers
from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.estimators.perturbations import Perturbations
from invariant_sharpness.estimators.products import tracked_products
from invariant_sharpness.metrics.traces import hessian_trace
from invariant_sharpness.parameters.fitting import require_fitting
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.export import strict_json
from invariant_sharpness.results.names import ByName
from invariant_sharpness.results.pages import table_html


@dataclass(frozen=True, slots=True)
class LayerChange:
    r"""The change :math:`\delta_l` of one layer, or of all of them together.

    Parameters
    ----------
    rise
        :math:`L(\theta + \delta_l) - L(\theta)`.
    slope
        :math:`g^T \delta_l`.
    curvature
        :math:`\tfrac12 \delta_l^T H \delta_l`.
    squared_length
        :math:`\lVert \delta_l \rVert^2`.
    hawq
        :math:`\operatorname{tr} H_l / n_l\, \lVert \delta_l \rVert^2` with the :math:`n_l` parameters of the layer, the score of HAWQ-V2; None if it was not asked for.

    Examples
    --------
    >>> LayerChange(rise=1.1, slope=0.5, curvature=0.5, squared_length=1.0).relative_error
    0.09090909090909098
    """

    rise: float
    slope: float
    curvature: float
    squared_length: float
    hawq: float | None = None

    @property
    def predicted(self) -> float:
        """The rise to second order, slope and curvature together."""
        return self.slope + self.curvature

    @property
    def relative_error(self) -> float:
        """How far rise and prediction are apart, relative to the larger magnitude."""
        largest = max(abs(self.rise), abs(self.predicted))
        return abs(self.rise - self.predicted) / largest if largest else 0.0

    def to_dict(self) -> dict[str, float | None]:
        """Return plain numbers."""
        own = {name: getattr(self, name) for name in ("rise", "slope", "curvature", "predicted", "relative_error")}
        return own | {"squared_length": self.squared_length, "hawq": self.hawq}


@dataclass(frozen=True, slots=True)
class ChangeSensitivity(Mapping[str, LayerChange]):
    r"""What :func:`change_sensitivity` returns: a mapping from the names of the parameter groups that change to what their change does.

    Parameters
    ----------
    layers
        By name.
    total
        The change of all layers together.
    forms
        The matrix :math:`\tfrac12 \delta_k^T H \delta_l` in the order of the layers. Its diagonal has their ``curvature``, all of it adds up to that of the total.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> found = ish.change_sensitivity(oracle, -oracle.parameters)
    >>> found["weight"].rise, found.total.predicted, found.cross_terms
    (-20.5, -20.5, 0.0)
    """

    layers: Mapping[str, LayerChange]
    total: LayerChange
    forms: npt.NDArray[np.float64]

    def __getitem__(self, name: str) -> LayerChange:
        return ByName(self.layers, "layer", "that changes")[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def cross_terms(self) -> float:
        """What the curvature of all changes together has beyond those of each."""
        return float(self.forms.sum() - np.trace(self.forms))

    @property
    def interaction(self) -> float:
        """What the rise of all changes together has beyond the rises of each."""
        return self.total.rise - fsum(layer.rise for layer in self.layers.values())

    def __str__(self) -> str:
        rows = [_cells(name, layer) for name, layer in self._rows()]
        widths = [max(len(cell) for cell in column) for column in zip(_HEADINGS, *rows, strict=True)]
        return "\n".join(_line(row, widths) for row in (_HEADINGS, *rows))

    def _repr_html_(self) -> str:
        """Show the table in notebooks."""
        table = Table(*_HEADINGS)
        for name, layer in self._rows():
            table.add_row(*_cells(name, layer))
        return table_html(table)

    def _rows(self) -> list[tuple[str, LayerChange]]:
        return [*self.layers.items(), ("all together", self.total)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
        layers = {name: layer.to_dict() for name, layer in self.layers.items()}
        return {"layers": layers, "total": self.total.to_dict(), "forms": self.forms.tolist()}

    def to_json(self) -> str:
        """Write it as JSON."""
        return strict_json(self.to_dict())


_HEADINGS = ("layer", "rise", "slope", "1/2 d'Hd", "error", "HAWQ")


def _cells(name: str, layer: LayerChange) -> list[str]:
    numbers = (layer.rise, layer.slope, layer.curvature)
    hawq = "" if layer.hawq is None else f"{layer.hawq:.3g}"
    return [name, *(f"{number:.3g}" for number in numbers), f"{layer.relative_error:.0%}", hawq]


def _line(cells: Any, widths: list[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()


@checked_numbers
def change_sensitivity(
    oracle: CurvatureOracle,
    change: ParameterVector,
    *,
    hawq: bool = True,
    probes: int = 64,
    seed: int = 0,
    diagonal: HessianDiagonal | None = None,
) -> ChangeSensitivity:
    r"""Measure what a given change of the parameters does to the loss, layer by layer.

    .. math:: L(\theta + \delta_l) - L(\theta) \approx g^T \delta_l + \tfrac12 \delta_l^T H \delta_l

    for the change :math:`\delta_l` of each parameter group alone, and for all of them together, where
    :math:`\delta^T H \delta = \sum_{kl} \delta_k^T H \delta_l` has cross terms. On a quadratic loss both sides are equal; how far they
    are apart is a measure of the third derivatives that a ranking of layers by curvature leaves out.

    Beside it stands the score of HAWQ-V2, :math:`\operatorname{tr} H_l / n_l\, \lVert \delta_l \rVert^2`, which is :math:`\delta_l^T H \delta_l` of an average
    direction of the same length. It has no slope, and is invariant to one factor for each layer alone.

    Invariances: those of the change. Rise, slope and curvature stay if it moves as the parameters do, as :func:`invariant_sharpness.coordinates.changes.rounding` with
    ``per="row"`` under one factor for each output unit.
    Cost: one gradient; for each layer a loss and a Hessian-vector product; and ``hawq`` the trace. Memory: two vectors for each layer of a block.
    Sources: Dong, Yao, Arfeen, Gholami, Mahoney and Keutzer (2020) for HAWQ-V2; LeCun, Denker and Solla (1990).

    Parameters
    ----------
    oracle
        The mean loss, at the model's parameters.
    change
        :math:`\delta`, a vector of the oracle's parameters, such as ``ish.changes.rounding(oracle, bits=4)``, or that of another checkpoint minus
        ``oracle.parameters``.
    hawq
        Whether the score of HAWQ-V2 is measured, too.
    probes
        Number of Hessian-vector products for the trace of groups whose diagonal is not exact.
    seed
        Seed of the trace.
    diagonal
        The diagonal of the Hessian, if it is known: several changes of one network need it once.

    Returns
    -------
    ChangeSensitivity
        What the change of each layer does, and that of all together; it prints as a table.

    Raises
    ------
    ModelError
        If the change belongs to another network.
    ArgumentError
        If it changes nothing.
    NonFiniteError
        If the loss is not finite after the change.

    Examples
    --------
    The loss is half of :math:`x^2 + 2 y^2`, at (3, 4). Halving all of it lowers it by three quarters of 20.5, of which the slope has -20.5:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> print(ish.change_sensitivity(oracle, -0.5 * oracle.parameters))
    layer          rise  slope  1/2 d'Hd  error  HAWQ
    weight        -15.4  -20.5      5.12     0%  9.38
    all together  -15.4  -20.5      5.12     0%
    """
    require_fitting(change, oracle.groups, "the changes")
    parts = {group.name: change.only([group.name]) for group in oracle.groups}
    parts = {name: part for name, part in parts.items() if part.norm() > 0}
    if not parts:
        msg = "the change is zero everywhere: there is nothing to measure"
        raise ArgumentError(msg)
    gradient = oracle.gradient(oracle.parameters)
    products = tracked_products(oracle, parts.values(), len(parts), "changes of layers")
    forms = np.array([[part.dot(product) / 2 for part in parts.values()] for _, product in products])
    forms = (forms + forms.T) / 2
    scores = _hawq_scores(oracle, parts, probes, seed, diagonal) if hawq else {}
    around = Perturbations.equal(oracle, 1.0)
    layers = {
        name: LayerChange(
            around.increase(part), gradient.dot(part), float(forms[i, i]), part.dot(part), scores.get(name)
        )
        for i, (name, part) in enumerate(parts.items())
    }
    total = LayerChange(around.increase(change), gradient.dot(change), float(forms.sum()), change.dot(change))
    return ChangeSensitivity(layers, total, forms)


def _hawq_scores(
    oracle: CurvatureOracle,
    parts: Mapping[str, ParameterVector],
    probes: int,
    seed: int,
    diagonal: HessianDiagonal | None,
) -> dict[str, float]:
    traces = hessian_trace(oracle, probes=probes, seed=seed, diagonal=diagonal).per_group
    sizes = {group.name: group.size for group in oracle.groups}
    return {name: traces[name].value / sizes[name] * part.dot(part) for name, part in parts.items()}
