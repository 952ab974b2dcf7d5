r"""Weights of single examples or of their positions, as Keras takes them: the loss of an example is :math:`w_n \ell_n`, and what is divided by does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast

from invariant_sharpness.adapters.data import WeightedTargets
from invariant_sharpness.adapters.loss_terms import LossTerms, RowTerms
from invariant_sharpness.errors import DataError
from invariant_sharpness.losses import Factors
from invariant_sharpness.losses.positions import Term

Array = Any

WEIGHTS_OF_ROWS = (
    'the batches have sample weights, but with examples="batches" a batch is one example, whose rows have no loss of their own: put the '
    "weights beside the targets, as in (x, (y, weights)), and take them into the loss"
)
"""What to do where weights have nothing to weight."""


@dataclass(frozen=True, slots=True)
class SampleWeighted:
    """The terms of a loss whose targets may have weights; without them they are those of the loss itself.

    Parameters
    ----------
    loss
        The terms of the loss.
    xp
        Array namespace of outputs, targets and weights.
    """

    loss: LossTerms
    xp: Any

    @property
    def name(self) -> str:
        return self.loss.name

    @property
    def description(self) -> str:
        return self.loss.description

    @property
    def reduction(self) -> Literal["mean", "sum"]:
        return self.loss.reduction

    @property
    def samples_outputs(self) -> bool:
        return self.loss.samples_outputs

    def check(self, outputs: Array, targets: Any, /) -> None:
        given = without_weights(targets)
        self.loss.check(outputs, given)
        check_weights(self.xp, targets, outputs.shape[0], self.loss.row_shape(outputs, given)[0])

    def values(self, outputs: Array, targets: Any, /) -> tuple[Array, Array]:
        losses, weights = self.loss.values(outputs, without_weights(targets))
        if not isinstance(targets, WeightedTargets):
            return losses, weights
        by_example = self._by_example(targets)
        rows = self.xp.reshape(losses, (by_example.shape[0], -1))
        return self.xp.reshape(rows * by_example, (-1,)), weights

    def gradient_factors(self, outputs: Array, targets: Any, /) -> Factors:
        factors = self.loss.gradient_factors(outputs, without_weights(targets))
        if not isinstance(targets, WeightedTargets):
            return factors
        return factors._replace(signs=factors.signs * self._by_example(targets)[:, :, None] ** 2)

    def curvature_factors(self, outputs: Array, targets: Any, /) -> Factors:
        factors = self.loss.curvature_factors(outputs, without_weights(targets))
        if not isinstance(targets, WeightedTargets):
            return factors
        return factors._replace(signs=factors.signs * self._by_example(targets)[:, :, None])

    def sampled_cotangents(self, outputs: Array, targets: Any, signs: Array, /) -> Array:
        cotangents = self.loss.sampled_cotangents(outputs, without_weights(targets), signs)
        if not isinstance(targets, WeightedTargets):
            return cotangents
        return cotangents * self.xp.sqrt(self._beside(targets, cotangents))

    def curvature_product(self, outputs: Array, targets: Any, vectors: Array, /) -> Array | None:
        """Return the weighted output Hessian times vectors in the shape of the outputs, where it has a closed form."""
        product = curvature_product(self.loss, outputs, without_weights(targets), vectors)
        if product is None or not isinstance(targets, WeightedTargets):
            return product
        return product * self._beside(targets, product)

    def row_shape(self, outputs: Array, targets: Any, /) -> tuple[int, int]:
        return self.loss.row_shape(outputs, without_weights(targets))

    def terms(self, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        return self.loss.terms(factors, outputs)

    def _beside(self, targets: WeightedTargets, array: Array) -> Array:
        """The weights with as many axes as an array in the shape of the outputs."""
        weights = targets.weights
        if prod(weights.shape) == weights.shape[0]:
            return self.xp.reshape(weights, (-1, *(1 for _ in array.shape[1:])))
        return self.xp.expand_dims(weights, axis=cast("RowTerms", self.loss).positions.class_axis)

    def _by_example(self, targets: WeightedTargets) -> Array:
        """The weights, one for an example or one for each of its positions: shape ``(n, 1)`` or ``(n, T)``."""
        return self.xp.reshape(targets.weights, (targets.weights.shape[0], -1))


def curvature_product(loss: LossTerms, outputs: Array, targets: Any, vectors: Array) -> Array | None:
    """Return the weighted output Hessian of a loss times vectors, where it has a closed form; a user's function has none."""
    return loss.curvature_product(outputs, targets, vectors) if isinstance(loss, RowTerms | SampleWeighted) else None


def unweighted(loss: LossTerms) -> LossTerms:
    """Return the terms of the loss itself."""
    return loss.loss if isinstance(loss, SampleWeighted) else loss


def without_weights(targets: Any) -> Any:
    """Return the targets alone."""
    return targets.targets if isinstance(targets, WeightedTargets) else targets


def check_weights(xp: Any, targets: Any, examples: int, rows: int) -> None:
    """Raise unless the weights of targets, if there are any, are not negative, and one for each example or row of the loss."""
    if not isinstance(targets, WeightedTargets):
        return
    weights = targets.weights
    if weights.shape[0] != examples or prod(weights.shape) not in (examples, rows):
        msg = (
            f"sample weights have shape {tuple(weights.shape)} for {examples} examples, of which the loss sees {rows} rows: give one weight "
            f"for each example, or for each row"
        )
        raise DataError(msg)
    if bool(xp.any(weights < 0)):
        msg = "some sample weights are negative, with which the loss is not convex in the outputs: take weights from 0"
        raise DataError(msg)
