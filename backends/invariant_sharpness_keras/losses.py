"""Losses of a model's outputs: those of the core, Keras' own objects for them, and any callable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import array_api_compat.numpy as xp
import keras
import numpy as np

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    CrossEntropy,
    FunctionLoss,
    OutputLoss,
    PositionLoss,
    SquaredError,
    convex,
    named_loss,
)
from invariant_sharpness.prng import Draws, output_signs
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

    @property
    def samples_outputs(self) -> bool:
        """Whether there are random terms."""
        ...

    def sampled_terms(self, outputs: Array, targets: Array, draws: Draws, /) -> Iterator[Term]:
        """Random terms, one for each draw, with the mean of ``curvature_terms``."""
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
        name = CallableLoss(loss).name
        msg = (
            f"Keras' {name} takes (targets, outputs): pass a name, or lambda outputs, targets: {name}(targets, outputs)"
        )
        raise LossError(msg)
    if callable(loss):
        return CallableLoss(cast("Callable[[Any, Any], Any]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, a keras loss, or a callable"
    raise LossError(msg)


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


class RowLoss(PositionLoss):
    """A loss of the core on arrays of the host, differentiated in the operations of Keras."""

    def values(self, outputs: Any, targets: Any, /) -> Any:
        return row_values(self.row_loss, *self.rows(keras.ops, outputs, targets))

    def check(self, engine: Engine, outputs: Array, targets: Array, /) -> None:
        self.check_rows(xp, outputs, targets)
        if not isinstance(self.row_loss, SquaredError):
            _check_logits(self.name, outputs)

    def weights(self, targets: Array, outputs: int, /) -> Array:
        _, rows = self.rows(xp, np.zeros((1, outputs)), targets)
        return np.asarray(self.row_loss.weights(xp, np.broadcast_to(0.0, (len(rows), outputs)), rows))

    def gradient_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        return self.terms(xp, self.gradient_rows(xp, outputs, targets), outputs)

    def curvature_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        return self.terms(xp, self.curvature_rows(xp, outputs, targets), outputs)

    def sampled_terms(self, outputs: Array, targets: Array, draws: Draws, /) -> Iterator[Term]:
        rows, _ = self.rows(xp, outputs, targets)
        for number in draws.numbers:
            signs = output_signs(draws.seed, number, draws.start, *rows.shape).astype(outputs.dtype)
            yield np.ones(len(outputs)), self.sampled_cotangents(xp, outputs, targets, signs)


class CallableLoss(FunctionLoss):
    """A user's function of tensors of the engine."""

    def values(self, outputs: Any, targets: Any, /) -> Any:
        return self.function(outputs, targets)

    def check(self, engine: Engine, outputs: Array, targets: Array, /) -> None:
        self.check_losses(engine.row_losses(outputs, targets), np.ndarray, len(outputs))

    def weights(self, targets: Array, outputs: int, /) -> Array:
        return np.ones(len(targets))

    def gradient_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        yield np.ones(len(outputs)), engine.row_gradient(outputs, targets)

    def curvature_terms(self, engine: Engine, outputs: Array, targets: Array, /) -> Iterator[Term]:
        """Eigenvectors of the output Hessian, which the engine supplies."""
        eigenvalues, eigenvectors = np.linalg.eigh(engine.row_hessian(outputs, targets))
        for k in range(eigenvalues.shape[1]):
            yield eigenvalues[:, k], eigenvectors[:, :, k].reshape(outputs.shape)

    @property
    def samples_outputs(self) -> bool:
        return False

    def sampled_terms(self, outputs: Array, targets: Array, draws: Draws, /) -> Iterator[Term]:
        convex(self)  # says that it is not
        return iter(())


def _check_logits(name: str, outputs: Array) -> None:
    if outputs.shape[-1] > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3):
        msg = (
            f"the outputs are probabilities, but {name} takes logits and applies softmax itself: build the model "
            f"without its last softmax (activation=None in the last layer; the weights stay the same)"
        )
        raise LossError(msg)
