"""Losses of rows, taken at every position of outputs with more axes: tokens, pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

from array_api_compat import device

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses.descriptions import described
from invariant_sharpness.losses.elementwise import ElementwiseLoss
from invariant_sharpness.losses.labels import are_probabilities
from invariant_sharpness.losses.next_token import NextTokenCrossEntropy
from invariant_sharpness.losses.protocol import ConvexLoss, CurvedLoss, OutputLoss, convex

Array = Any
Term = tuple[Array, Array]
"""Signed weights ``s`` of shape ``(n,)`` and cotangents ``v`` of the shape of the outputs."""


class Factors(NamedTuple):
    """Weighted cotangents, of which squares are to be summed: ``sum_n sum_t sum_r s_ntr (J_nt^T v_ntr)^2``.

    Parameters
    ----------
    signs
        The weights s, of either sign, of shape ``(n, T, R)``: R for each of the T positions of an example.
    vectors
        The cotangents v of the K outputs of a position, of shape ``(n, T, K, R)``.

    Examples
    --------
    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> from invariant_sharpness.losses import PositionLoss, SquaredError
    >>> squares = PositionLoss(SquaredError()).curvature_rows(xp, np.zeros((1, 2)), np.zeros((1, 2)))
    >>> squares.signs.tolist()  # the output Hessian of the squared error of two outputs is the unit matrix
    [[[1.0, 1.0]]]
    """

    signs: Array
    vectors: Array


@dataclass(frozen=True, slots=True)
class PositionLoss:
    """A loss of rows of K outputs; all axes between the examples and the classes are positions.

    Every position counts as one term of the mean, as tokens do. For losses of single outputs, such as the squared error, an
    example is one row.
    An adapter adds to it the form in which its oracle asks for losses and squares.

    Parameters
    ----------
    row_loss
        The loss of a row.
    class_axis
        The axis of the K outputs: 1 in torch's own cross-entropy, -1 everywhere else.
    reduction
        Whether the loss of the data is the weighted mean of the rows' losses, or their weighted sum.

    Examples
    --------
    Two positions of one example, each with two equal outputs: the loss of each is the logarithm of 2.

    >>> import numpy as np
    >>> import array_api_compat.numpy as xp
    >>> from invariant_sharpness.losses import CrossEntropy, PositionLoss
    >>> PositionLoss(CrossEntropy()).row_values(xp, np.zeros((1, 2, 2)), np.array([[0, 1]])).round(6).tolist()
    [0.693147, 0.693147]
    """

    row_loss: OutputLoss
    class_axis: int = -1
    reduction: Literal["mean", "sum"] = "mean"

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.row_loss.name

    @property
    def description(self) -> str:
        """The name with all options that are not the usual ones, for reports."""
        return described(self.row_loss, reduction=self.reduction)

    def check_rows(
        self, xp: Any, outputs: Array, targets: Array, /, otherwise: str = "move the classes to the last axis"
    ) -> None:
        """Raise an error that says what is wrong; ``otherwise`` is what to do where the classes are on another axis."""
        if isinstance(self.row_loss, ElementwiseLoss):
            _check_equal_shapes(outputs, targets, self.row_loss.title)
        else:
            self._check_shapes(xp, outputs, targets, otherwise)
        rows, labels = self.rows(xp, outputs, targets)
        self.row_loss.check(xp, rows, labels)
        self.row_loss.weights(xp, rows, labels)

    def rows(self, xp: Any, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Return outputs and targets of all rows: ``(m, K)``, and of losses of single outputs ``(n, ...)``."""
        if isinstance(self.row_loss, ElementwiseLoss):
            return outputs, xp.reshape(targets, (-1, *outputs.shape[1:]))
        moved = xp.moveaxis(outputs, self.class_axis, -1)
        rows = xp.reshape(moved, (-1, moved.shape[-1]))
        if are_probabilities(outputs, targets):
            return rows, xp.reshape(xp.moveaxis(targets, self.class_axis, -1), (-1, moved.shape[-1]))
        if isinstance(self.row_loss, NextTokenCrossEntropy):
            targets = self.row_loss.of_next_position(xp, targets)
        return rows, xp.reshape(targets, (-1,))

    def row_values(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        """Compute the loss of each row."""
        return self.row_loss.values(xp, *self.rows(xp, outputs, targets))

    def row_weights(self, xp: Any, outputs: Array, targets: Array, /) -> Array:
        """Return the weight of each row in the mean."""
        return self.row_loss.weights(xp, *self.rows(xp, outputs, targets))

    def gradient_rows(self, xp: Any, outputs: Array, targets: Array, /) -> Factors:
        """Return the weighted cotangents of the second moment of the gradients."""
        gradient = self.row_loss.gradient(xp, *self.rows(xp, outputs, targets))
        return _factors(xp, outputs, self.row_weights(xp, outputs, targets)[:, None], gradient[:, :, None])

    def curvature_rows(self, xp: Any, outputs: Array, targets: Array, /) -> Factors:
        """Return the weighted cotangents of the Gauss-Newton diagonal."""
        signs, vectors = self.row_loss.hessian_factors(xp, *self.rows(xp, outputs, targets))
        return _factors(xp, outputs, signs * self.row_weights(xp, outputs, targets)[:, None], vectors)

    @property
    def samples_outputs(self) -> bool:
        """Whether the loss is convex in the outputs, so that there are random cotangents."""
        return isinstance(self.row_loss, ConvexLoss)

    def sampled_cotangents(self, xp: Any, outputs: Array, targets: Array, signs: Array, /) -> Array:
        r"""Return cotangents :math:`\sqrt{w_t} R_t \varepsilon_t` in the shape of the outputs, from signs of shape ``(m, K)`` for the rows.

        Over the signs, the mean of :math:`(J_n^T c_n)^2` is the contribution of an example to the Gauss-Newton diagonal.
        """
        vectors = convex(self.row_loss).hessian_root_product(xp, *self.rows(xp, outputs, targets), signs)
        weighted = vectors * xp.sqrt(self.row_weights(xp, outputs, targets))[:, None]
        return self._as_outputs(xp, weighted, outputs)

    def curvature_product(self, xp: Any, outputs: Array, targets: Array, vectors: Array, /) -> Array | None:
        r"""Return :math:`w_t \Lambda_t u_t` for vectors in the shape of the outputs; None where the loss has no closed form for it."""
        if not isinstance(self.row_loss, CurvedLoss):
            return None
        along = xp.reshape(xp.moveaxis(vectors, self.class_axis, -1), (-1, vectors.shape[self.class_axis]))
        product = self.row_loss.hessian_product(xp, *self.rows(xp, outputs, targets), along)
        return self._as_outputs(xp, product * self.row_weights(xp, outputs, targets)[:, None], outputs)

    def _as_outputs(self, xp: Any, rows: Array, outputs: Array) -> Array:
        """The rows in the shape of the outputs."""
        shape = xp.moveaxis(outputs, self.class_axis, -1).shape
        return xp.moveaxis(xp.reshape(rows, shape), -1, self.class_axis)

    def terms(self, xp: Any, factors: Factors, outputs: Array, /) -> Iterator[Term]:
        """Yield one term per position and cotangent: the outputs of other positions get none."""
        shape = xp.moveaxis(outputs, self.class_axis, -1).shape
        _, positions, terms = factors.signs.shape
        for position in range(positions):
            for term in range(terms):
                cotangent = xp.zeros(factors.vectors.shape[:3], dtype=outputs.dtype, device=device(outputs))
                cotangent[:, position] = factors.vectors[:, position, :, term]
                yield factors.signs[:, position, term], xp.moveaxis(xp.reshape(cotangent, shape), -1, self.class_axis)

    def _check_shapes(self, xp: Any, outputs: Array, targets: Array, otherwise: str) -> None:
        if outputs.ndim < 2:
            msg = (
                f"outputs have shape {tuple(outputs.shape)}, but {self.name} needs one row of outputs per example, "
                f"(n, K): remove the squeeze() or the mean over examples from the model"
            )
            raise LossError(msg)
        if isinstance(self.row_loss, NextTokenCrossEntropy):
            self.row_loss.check_positions(outputs, targets)
        if are_probabilities(outputs, targets):
            return
        positions = tuple(xp.moveaxis(outputs, self.class_axis, -1).shape[:-1])
        if _squeezed(targets.shape) not in (_squeezed(positions), _squeezed((prod(positions),))):
            msg = (
                f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}, but {self.name} needs one "
                f"class label for each row of K outputs, or targets of the shape of the outputs with the probabilities of the "
                f"classes; {otherwise}"
            )
            raise DataError(msg)


def _check_equal_shapes(outputs: Array, targets: Array, name: str) -> None:
    """Raise unless there is one target for each output; axes of length one may be missing."""
    if targets.shape[:1] != outputs.shape[:1] or prod(targets.shape) != prod(outputs.shape):
        msg = (
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}: {name} needs equal shapes, "
            f"one target for each output"
        )
        raise DataError(msg)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out axes of length one, on which the order of the rows does not depend."""
    return tuple(length for length in shape if length != 1)


def _factors(xp: Any, outputs: Array, signs: Array, vectors: Array) -> Factors:
    """Sort the rows by example and position."""
    examples = outputs.shape[0]
    positions = signs.shape[0] // examples
    return Factors(
        xp.reshape(signs, (examples, positions, *signs.shape[1:])),
        xp.reshape(vectors, (examples, positions, *vectors.shape[1:])),
    )
