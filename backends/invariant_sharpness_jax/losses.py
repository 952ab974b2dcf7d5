"""The losses that users give to the JAX backend: by name, of the core, and any function of JAX arrays."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy
import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.adapters.loss_terms import LossTerms, RowTerms
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import Factors, FunctionLoss, OutputLoss, PositionLoss, named_loss
from invariant_sharpness.losses.callables import check_order
from invariant_sharpness_jax.callable_losses import CallableTerms
from invariant_sharpness_jax.optax_losses import of_optax

Array = jax.Array


def resolve_loss(loss: Any) -> LossTerms:
    """Return the terms of the loss behind a name, a loss of the core, a loss of Optax, or a callable.

    Raises
    ------
    LossError
        If it is none of these.
    """
    found = loss if isinstance(loss, (PositionLoss, FunctionLoss)) else _resolved(loss)
    if isinstance(found, PositionLoss):
        return _RowTerms(found, jnp, jax.lax.stop_gradient)
    return CallableTerms(found, jnp, _row_gradient, _row_hessian, jax.Array)


def _resolved(loss: Any) -> PositionLoss | FunctionLoss:
    if isinstance(loss, str):
        return PositionLoss(named_loss(loss))
    if isinstance(loss, OutputLoss):
        return PositionLoss(loss)
    if found := of_optax(loss):
        return found
    if callable(loss):
        check_order(loss)
        return FunctionLoss(loss)
    msg = f"loss of type {type(loss).__name__} is not known: pass a name, or a callable (outputs, targets) -> losses"
    raise LossError(msg)


def sampled_factors(loss: LossTerms, outputs: Array, targets: Array, signs: Array) -> Factors:
    """Stack random cotangents, from signs of shape ``(draws, m, K)``: one term for all outputs of an example, and each draw."""
    draws = [loss.sampled_cotangents(outputs, targets, drawn) for drawn in signs.astype(outputs.dtype)]
    vectors = jnp.stack([cotangents.reshape(len(outputs), 1, -1) for cotangents in draws], axis=3)
    return Factors(jnp.ones((len(outputs), 1, len(draws)), outputs.dtype), vectors)


class _RowTerms(RowTerms):
    """The terms of a loss of the core, checked on the host, where nothing has to be compiled for it."""

    def check(self, outputs: Array, targets: Array, /) -> None:
        self.positions.check_rows(
            array_api_compat.numpy, np.asarray(outputs, dtype=np.float64), np.asarray(targets), otherwise=self.otherwise
        )


def _row_gradient(function: Any, outputs: Array, targets: Array) -> Array:
    return jax.grad(lambda z: jnp.sum(function(z, targets)))(outputs)


def _row_hessian(function: Any, outputs: Array, targets: Array) -> Array:
    rows = outputs.reshape(len(outputs), -1)

    def loss(row: Array, target: Array) -> Array:
        return function(row.reshape(1, *outputs.shape[1:]), target[None])[0]

    return jax.vmap(jax.jacrev(jax.grad(loss)))(rows, targets)  # forward mode is not had by every loss
