"""Losses on JAX arrays: those of the core, and any callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import array_api_compat.numpy
import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import OutputLoss, SquaredError, named_loss

Array = jax.Array


class Factors(NamedTuple):
    """Sums of squares to be taken: ``sum_n sum_t sum_r s_ntr (J_nt^T v_ntr)^2``.

    Parameters
    ----------
    signs
        The factors s, of shape ``(n, T, R)``: R for each of the T positions of an example.
    vectors
        Cotangents v of the K outputs of a position, of shape ``(n, T, K, R)``.
    """

    signs: Array
    vectors: Array


class JaxLoss(Protocol):
    """A loss of outputs whose first axis counts examples."""

    @property
    def name(self) -> str:
        """For messages and reports."""
        ...

    def check(self, outputs: Array, targets: Array, /) -> None:
        """Raise an error that says what is wrong with these outputs or targets; not to be compiled."""
        ...

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        """Losses and their weights in the mean, one per row."""
        ...

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Factors of the second moment of the gradients."""
        ...

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Factors of the Gauss-Newton diagonal."""
        ...


def resolve_loss(loss: Any) -> JaxLoss:
    """The loss behind a name, a core loss or a callable.

    Raises
    ------
    LossError
        If it is none of these.
    """
    if isinstance(loss, str):
        return RowLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return RowLoss(loss)
    if callable(loss):
        return CallableLoss(cast("Callable[[Array, Array], Array]", loss))
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, or a callable (outputs, targets) -> losses"
    raise LossError(msg)


@dataclass(frozen=True, slots=True)
class RowLoss:
    """A loss of the core on rows of K outputs, the last axis; all axes between it and the first are positions.

    Every position counts as one term of the mean, as tokens do.
    """

    loss: OutputLoss

    @property
    def name(self) -> str:
        return self.loss.name

    def check(self, outputs: Array, targets: Array, /) -> None:
        """On the host, where nothing has to be compiled for it."""
        rows, labels = self._rows(outputs, targets)
        host = np.asarray(rows, dtype=np.float64), np.asarray(labels)
        self.loss.check(array_api_compat.numpy, *host)
        self.loss.weights(array_api_compat.numpy, *host)

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        rows, labels = self._rows(outputs, targets)
        return self.loss.values(jnp, rows, labels), self.loss.weights(jnp, jax.lax.stop_gradient(rows), labels)

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        rows, labels = self._rows(outputs, targets)
        gradient = self.loss.gradient(jnp, rows, labels)[:, :, None]
        return self._factors(outputs, self.loss.weights(jnp, rows, labels)[:, None], gradient)

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        rows, labels = self._rows(outputs, targets)
        signs, vectors = self.loss.hessian_factors(jnp, rows, labels)
        return self._factors(outputs, signs * self.loss.weights(jnp, rows, labels)[:, None], vectors)

    def _rows(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        if isinstance(self.loss, SquaredError) and targets.ndim > 0:
            return outputs.reshape(len(outputs), -1), targets.reshape(len(targets), -1)
        if outputs.ndim < 2:
            msg = (
                f"outputs have shape {outputs.shape}, but {self.name} needs one row of outputs per example, "
                f"(n, K): remove the squeeze() or the mean over examples from the model"
            )
            raise LossError(msg)
        if targets.shape != outputs.shape[:-1]:
            msg = (
                f"outputs have shape {outputs.shape} and targets {targets.shape}, but {self.name} needs one class "
                f"label for each row of K outputs: take argmax(-1) of one-hot targets, and move the classes to the last axis"
            )
            raise DataError(msg)
        return outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)

    @staticmethod
    def _factors(outputs: Array, signs: Array, vectors: Array) -> Factors:
        """Rows of all positions, put in their places."""
        examples = len(outputs)
        positions = len(signs) // examples
        return Factors(
            signs.reshape(examples, positions, *signs.shape[1:]),
            vectors.reshape(examples, positions, *vectors.shape[1:]),
        )


@dataclass(frozen=True, slots=True)
class CallableLoss:
    """A user's function ``(outputs, targets) -> one loss per example``; every example has weight one."""

    function: Callable[[Array, Array], Array]

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def check(self, outputs: Array, targets: Array, /) -> None:
        losses = self.function(outputs, targets)
        expected = (len(outputs),)
        if not isinstance(losses, jax.Array) or losses.shape != expected:
            shape = losses.shape if isinstance(losses, jax.Array) else type(losses).__name__
            msg = (
                f"loss {self.name!r} returned {shape} for {len(outputs)} examples, but it has to return one loss per "
                f"example, shape {expected}: sum or average over all axes but the first"
            )
            raise LossError(msg)

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        losses = self.function(outputs, targets)
        return losses, jnp.ones_like(losses)

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        gradient = jax.grad(lambda z: jnp.sum(self.function(z, targets)))(outputs)
        return Factors(jnp.ones((len(outputs), 1, 1), outputs.dtype), gradient.reshape(len(outputs), 1, -1, 1))

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        """Eigenvectors of the output Hessian of each example."""
        rows = outputs.reshape(len(outputs), -1)

        def loss(row: Array, target: Array) -> Array:
            return self.function(row.reshape(1, *outputs.shape[1:]), target[None])[0]

        eigenvalues, eigenvectors = jnp.linalg.eigh(jax.vmap(jax.hessian(loss))(rows, targets))
        return Factors(eigenvalues[:, None], eigenvectors[:, None])
