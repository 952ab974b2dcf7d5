"""How sure the minimum of (17) of one layer is: what remains of a layer once its scales, as large as its weights, are let go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np

from invariant_sharpness.estimators.diagonal_results import (
    ChangesByPart,
    HessianDiagonal,
    Tangent,
    cross_fitted,
    error_of_parts,
)
from invariant_sharpness.metrics.brackets import OF_THE_HESSIAN, OF_THE_RESIDUAL, below_the_minimum, sampled_bracket
from invariant_sharpness.metrics.layer_minima import LayerMinimum
from invariant_sharpness.parameters.matrices import HostArray
from invariant_sharpness.protocol import HostArrays
from invariant_sharpness.results.estimate import Bracket, GroupEstimate

Minimizer = Callable[[HostArrays], LayerMinimum]
"""From the curvature to the minimum of a layer."""

_NOT_ATTAINED = "dead units or unused inputs, which add nothing (the infimum is not attained)"


@dataclass(frozen=True, slots=True)
class MeasuredLayer:
    """The minimum of one layer, with its errors.

    Parameters
    ----------
    name
        The name of its weight.
    value, lower_bound
        The minimum, and what is proven to be below it.
    estimate
        What a report says of it.
    changes
        What each part of the draws adds to the minimum, to first order.
    bracket
        What clipped noise makes of it, on both sides.
    crossed
        The mean over both halves of the draws of what one of them says at the scales that are best for the other.
    """

    name: str
    value: float
    lower_bound: float
    estimate: GroupEstimate
    changes: ChangesByPart
    bracket: Bracket | None
    crossed: float | None


@dataclass(frozen=True, slots=True)
class LayerErrors:
    """What is asked of the minimum of every layer.

    Parameters
    ----------
    diagonal
        The diagonal of the Hessian.
    names
        The groups of all layers.
    weights
        Their weights.
    lam
        The constant of (17).
    """

    diagonal: HessianDiagonal
    names: frozenset[str]
    weights: HostArrays
    lam: float

    @property
    def methods(self) -> frozenset[str]:
        """How the diagonal of the layers was obtained."""
        return frozenset(self.diagonal[name].method for name in self.names)

    @property
    def of_clipping(self) -> bool:
        """Whether there is noise of both signs, which is clipped."""
        return bool(self.methods & (OF_THE_HESSIAN | OF_THE_RESIDUAL))

    @property
    def of_choice(self) -> bool:
        """Whether the scales are chosen on draws that can be halved, so that the minimum is too small in expectation."""
        return bool(self.methods & (OF_THE_RESIDUAL | {"sampled outputs"})) and not self.methods & OF_THE_HESSIAN

    def of_layer(self, minimize: Minimizer) -> MeasuredLayer:
        """Minimize once, and once more on each half of the draws where the scales are chosen on draws."""
        layer = minimize(self.diagonal.arrays)
        changes = self.diagonal.changes_by_part(layer.derivatives)
        return MeasuredLayer(
            layer.name,
            layer.value,
            layer.lower_bound,
            self._estimate(layer, changes),
            changes,
            self._bracket(layer) if self.of_clipping else None,
            self._crossed(layer, minimize) if self.of_choice else None,
        )

    def _crossed(self, layer: LayerMinimum, minimize: Minimizer) -> float:
        names = frozenset(layer.variances)
        return cross_fitted(lambda curvature: _tangent(minimize(curvature)), self.diagonal, names)

    def _bracket(self, layer: LayerMinimum) -> Bracket:
        """Return the sides of one layer, over all of its groups."""
        names = list(layer.variances)
        methods = [self.diagonal[name].method for name in names]
        if set(methods) & OF_THE_RESIDUAL:
            rows = partial(_row_sums, layer)
            below = below_the_minimum(layer.variances, self.weights, self.diagonal, self.lam, rows)
            return Bracket(min(below, layer.value), layer.value)
        joined, curvature = (
            np.concatenate([arrays[name].ravel() for name in names]) for arrays in (self.weights, self.diagonal.arrays)
        )
        return sampled_bracket(layer.value, joined, curvature, methods, sqrt(2 / self.lam))

    def _estimate(self, layer: LayerMinimum, changes: ChangesByPart) -> GroupEstimate:
        methods = dict.fromkeys(self.diagonal[name].method for name in layer.variances)
        notes = [*map(self.diagonal.note, layer.variances), "" if layer.attained else _NOT_ATTAINED]
        error = error_of_parts(changes)
        known = None if error is None else error.standard_error
        return GroupEstimate(layer.value, " and ".join(methods), known, "; ".join(filter(None, notes)))


def _row_sums(layer: LayerMinimum, arrays: HostArrays) -> HostArray:
    """Sum over the columns of each row; what is counted parameter by parameter is one row."""
    if layer.matrix is None:
        return np.array(sum(float(array.sum()) for array in arrays.values()))
    return layer.matrix.matrices(arrays).sum(axis=-1)


def _tangent(layer: LayerMinimum) -> Tangent:
    return Tangent(layer.penalty, layer.variances)
