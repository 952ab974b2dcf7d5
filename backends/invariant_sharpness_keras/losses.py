"""Losses of a model's outputs: those of the core, Keras' own objects for them, and any callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, cast

import array_api_compat.numpy as xp
import keras
import numpy as np

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import CrossEntropy, OutputLoss, SquaredError, named_loss
from invariant_sharpness_keras.engines import Array, Engine
from invariant_sharpness_keras.output_losses import row_values

Term = tuple[Array, Array]
"""Signed weights ``s`` of shape ``(n,)`` and cotangents of the shape of the outputs."""


class KerasLoss(Protocol):
    """A loss of outputs whose first axis counts examples."""

    @property
    def name(self) -> str:
        """For messages and reports."""
        ...

    def values(self, outputs: Any, targets: Any, /) -> Any:
        """The losses, in the engine's own operations."""
        ...

    def check(self, engine: Engine, outputs: Array, targets: Array, /) -> None:
        """Raise an error that says what is wrong with these outputs or targets."""
        ...

    def weights(self, targets: Array, outputs: int, /) -> Array:
        """Weight of each loss in the mean; ``outputs`` is the length of the last axis of the outputs."""
        ...

    def gradient_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        """Terms such that the second moment of the gradients is the sum of ``s_n (J_n^T v_n)^2``."""
        ...

    def curvature_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        """Terms such that the Gauss-Newton diagonal is the sum of ``s_n (J_n^T v_n)^2``."""
        ...


def resolve_loss(loss: Any) -> KerasLoss:
    """The loss behind a name, a core loss, Keras' cross-entropy and squared error, or a callable.

    Raises
    ------
    LossError
        If it is none of these, or a Keras loss that takes ``(targets, outputs)`` or probabilities.
    """
    if isinstance(loss, str):
        return RowLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return RowLoss(loss)
    if isinstance(loss, keras.losses.Loss):
        return _of_keras(loss)
    if getattr(loss, "__module__", "").startswith("keras."):
        msg = (
            f"Keras' {_name(loss)} takes (targets, outputs): pass a name, or "
            f"lambda outputs, targets: {_name(loss)}(targets, outputs)"
        )
        raise LossError(msg)
    if callable(loss):
        return CallableLoss(cast("Callable[[Any, Any], Any]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, a keras loss, or a callable"
    raise LossError(msg)


@dataclass(frozen=True, slots=True)
class RowLoss:
    """A loss of the core on rows of K outputs; all axes between the first and the last are positions.

    Every position counts as one term of the mean, as tokens do.
    """

    loss: OutputLoss

    @property
    def name(self) -> str:
        return self.loss.name

    def values(self, outputs: Any, targets: Any, /) -> Any:
        return row_values(self.loss, *self._rows(outputs, targets, keras.ops.reshape))

    def check(self, engine: Engine, outputs: Array, targets: Array, /) -> None:
        if outputs.ndim < 2:
            msg = (
                f"outputs have shape {outputs.shape}, but {self.name} needs one row of outputs per example, (n, K): "
                f"remove what takes the last axis away from the model"
            )
            raise LossError(msg)
        if not isinstance(self.loss, SquaredError):
            self._check_labels(outputs, targets)
        rows = self._rows(outputs, targets)
        self.loss.check(xp, *rows)
        self.loss.weights(xp, *rows)

    def weights(self, targets: Array, outputs: int, /) -> Array:
        _, rows = self._rows(np.zeros((1, outputs)), targets)
        return np.asarray(self.loss.weights(xp, np.broadcast_to(0.0, (len(rows), outputs)), rows))

    def gradient_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        rows, labels = self._rows(outputs, targets)
        gradient = self.loss.gradient(xp, rows, labels)
        yield from _terms(outputs, self.loss.weights(xp, rows, labels)[:, None], gradient[:, :, None])

    def curvature_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        rows, labels = self._rows(outputs, targets)
        signs, vectors = self.loss.hessian_factors(xp, rows, labels)
        yield from _terms(outputs, signs * self.loss.weights(xp, rows, labels)[:, None], vectors)

    def _rows(self, outputs: Any, targets: Any, reshape: Callable[..., Any] = np.reshape) -> tuple[Any, Any]:
        if isinstance(self.loss, SquaredError):
            return reshape(outputs, (-1, prod(outputs.shape[1:]))), reshape(targets, (-1, prod(targets.shape[1:])))
        return reshape(outputs, (-1, outputs.shape[-1])), reshape(targets, (-1,))

    def _check_labels(self, outputs: Array, targets: Array) -> None:
        if targets.size != outputs[..., 0].size:
            msg = (
                f"outputs have shape {outputs.shape} and targets {targets.shape}, but {self.name} needs one class label "
                f"for each row of K outputs: take argmax(-1) of one-hot targets"
            )
            raise DataError(msg)
        if outputs.shape[-1] > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
            msg = (
                f"the outputs are probabilities, but {self.name} takes logits and applies softmax itself: build the model "
                f"without its last softmax (activation=None in the last layer; the weights stay the same)"
            )
            raise LossError(msg)


@dataclass(frozen=True, slots=True)
class CallableLoss:
    """A user's function ``(outputs, targets) -> one loss per example``; every example has weight one."""

    function: Callable[[Any, Any], Any]

    @property
    def name(self) -> str:
        return _name(self.function)

    def values(self, outputs: Any, targets: Any, /) -> Any:
        return self.function(outputs, targets)

    def check(self, engine: Engine, outputs: Array, targets: Array, /) -> None:
        losses = engine.row_losses(outputs, targets)
        if losses.shape != (len(outputs),):
            msg = (
                f"loss {self.name!r} returned shape {losses.shape} for {len(outputs)} examples, but it has to return one "
                f"loss per example, shape {(len(outputs),)}: sum or average over all axes but the first"
            )
            raise LossError(msg)

    def weights(self, targets: Array, outputs: int, /) -> Array:
        return np.ones(len(targets))

    def gradient_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        yield np.ones(len(outputs)), engine.row_gradient(outputs, targets)

    def curvature_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        """Eigenvectors of the output Hessian, which the engine supplies."""
        eigenvalues, eigenvectors = np.linalg.eigh(engine.row_hessian(outputs, targets))
        for k in range(eigenvalues.shape[1]):
            yield eigenvalues[:, k], eigenvectors[:, :, k].reshape(outputs.shape)


def _terms(outputs: Array, signs: Array, vectors: Array) -> Iterator[Term]:
    """One term per position and factor: rows of other positions get no cotangent."""
    examples = len(outputs)
    positions = len(signs) // examples
    signs = signs.reshape(examples, positions, -1)
    vectors = vectors.reshape(examples, positions, *vectors.shape[1:])
    for position in range(positions):
        for factor in range(signs.shape[2]):
            cotangent = np.zeros(vectors.shape[:3], dtype=outputs.dtype)
            cotangent[:, position] = vectors[:, position, :, factor]
            yield signs[:, position, factor], cotangent.reshape(outputs.shape)


def _of_keras(loss: keras.losses.Loss) -> RowLoss:
    if isinstance(loss, keras.losses.MeanSquaredError):
        return RowLoss(SquaredError())
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        options = loss.get_config()
        if options["from_logits"]:
            ignored = options.get("ignore_class")
            return RowLoss(CrossEntropy() if ignored is None else CrossEntropy(ignore_index=ignored))
        msg = (
            "SparseCategoricalCrossentropy(from_logits=False) takes probabilities: build the model without its last "
            'softmax, and pass "cross_entropy"'
        )
        raise LossError(msg)
    msg = (
        f"keras.losses.{type(loss).__name__} is not supported: pass a name, SparseCategoricalCrossentropy(from_logits=True), "
        f"MeanSquaredError(), or a callable (outputs, targets) -> one loss per example"
    )
    raise LossError(msg)


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
