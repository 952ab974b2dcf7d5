r"""Weights of single examples, as Keras takes them: the loss of an example is :math:`w_n \ell_n`, and what is divided by does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from invariant_sharpness.adapters.data import WeightedTargets
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.errors import DataError
from invariant_sharpness.losses import Factors
from invariant_sharpness.losses.positions import Term

Array = Any


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
        weights = targets.weights
        shape = (*weights.shape, *(1 for _ in range(len(cotangents.shape) - len(weights.shape))))
        return cotangents * self.xp.sqrt(self.xp.reshape(weights, shape))

    def row_shape(self, outputs: Array, targets: Any, /) -> tuple[int, int]:
        return self.loss.row_shape(outputs, without_weights(targets))

    def terms(self, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        return self.loss.terms(factors, outputs)

    def _by_example(self, targets: WeightedTargets) -> Array:
        """The weights, one for an example or one for each of its positions: shape ``(n, 1)`` or ``(n, T)``."""
        return self.xp.reshape(targets.weights, (targets.weights.shape[0], -1))


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
