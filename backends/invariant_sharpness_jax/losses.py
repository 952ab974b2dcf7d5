"""Losses on JAX arrays: those of the core, and any callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import array_api_compat.numpy
import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import Factors as Factors
from invariant_sharpness.losses import FunctionLoss, OutputLoss, PositionLoss, convex, named_loss

Array = jax.Array


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

    @property
    def samples_outputs(self) -> bool:
        """Whether there are random factors."""
        ...

    def sampled_factors(self, outputs: Array, targets: Array, signs: Array, /) -> Factors:
        """Random factors with the mean of ``curvature_factors``, from signs of shape ``(draws, m, K)`` for the m rows of outputs."""
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


class RowLoss(PositionLoss):
    """A loss of the core on JAX arrays."""

    def check(self, outputs: Array, targets: Array, /) -> None:
        """On the host, where nothing has to be compiled for it."""
        self.check_rows(array_api_compat.numpy, np.asarray(outputs, dtype=np.float64), np.asarray(targets))

    def values(self, outputs: Array, targets: Array, /) -> tuple[Array, Array]:
        fixed = jax.lax.stop_gradient(outputs)
        return self.row_values(jnp, outputs, targets), self.row_weights(jnp, fixed, targets)

    def gradient_factors(self, outputs: Array, targets: Array, /) -> Factors:
        return self.gradient_rows(jnp, outputs, targets)

    def curvature_factors(self, outputs: Array, targets: Array, /) -> Factors:
        return self.curvature_rows(jnp, outputs, targets)

    def sampled_factors(self, outputs: Array, targets: Array, signs: Array, /) -> Factors:
        """One term for all outputs of an example."""
        draws = [self.sampled_cotangents(jnp, outputs, targets, drawn) for drawn in signs.astype(outputs.dtype)]
        vectors = jnp.stack([cotangents.reshape(len(outputs), 1, -1) for cotangents in draws], axis=3)
        return Factors(jnp.ones((len(outputs), 1, len(draws)), outputs.dtype), vectors)


class CallableLoss(FunctionLoss):
    """A user's function of JAX arrays."""

    def check(self, outputs: Array, targets: Array, /) -> None:
        self.check_losses(self.function(outputs, targets), jax.Array, len(outputs))

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

    @property
    def samples_outputs(self) -> bool:
        return False

    def sampled_factors(self, outputs: Array, targets: Array, signs: Array, /) -> Factors:
        convex(self)  # says that it is not
        raise AssertionError
