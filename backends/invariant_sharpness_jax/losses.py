"""The losses that users give to the JAX backend: by name, of the core, and any function of JAX arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import array_api_compat.numpy
import jax
import jax.numpy as jnp
import numpy as np

from invariant_sharpness.adapters.loss_terms import FunctionTerms, LossTerms, RowTerms, check_one_target
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import Factors, FunctionLoss, OutputLoss, PositionLoss, named_loss
from invariant_sharpness.losses.callables import check_order
from invariant_sharpness_jax.callable_losses import CallableTerms
from invariant_sharpness_jax.optax_losses import of_optax
from invariant_sharpness_jax.processes import addressable

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
    return function_terms(found)


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


def function_terms(loss: FunctionLoss) -> FunctionTerms:
    """Return the terms of a function of JAX arrays."""
    compiled = jax.jit(lambda outputs, targets: loss.function(outputs, targets))
    return CallableTerms(loss, jnp, _row_gradient, _row_hessian, jax.Array, partial(_losses_at, compiled))


def sampled_factors(loss: LossTerms, outputs: Array, targets: Array, signs: Array) -> Factors:
    """Stack random cotangents, from signs of shape ``(draws, m, K)``: one term for all outputs of an example, and each draw."""
    draws = [loss.sampled_cotangents(outputs, targets, drawn) for drawn in signs.astype(outputs.dtype)]
    vectors = jnp.stack([cotangents.reshape(len(outputs), 1, -1) for cotangents in draws], axis=3)
    return Factors(jnp.ones((len(outputs), 1, len(draws)), outputs.dtype), vectors)


class _RowTerms(RowTerms):
    """The terms of a loss of the core, checked on the host, where nothing has to be compiled for it."""

    def check(self, outputs: Array, targets: Any, /) -> None:
        check_one_target(self.name, targets)
        on_host = RowTerms(self.positions, array_api_compat.numpy, otherwise=self.otherwise)
        on_host.check(np.asarray(addressable(outputs), dtype=np.float64), np.asarray(addressable(targets)))


def _row_gradient(function: Any, outputs: Array, targets: Array) -> Array:
    return jax.grad(lambda z: jnp.sum(function(z, targets)))(outputs)


def _row_hessian(function: Any, outputs: Array, targets: Array) -> Array:
    rows = outputs.reshape(len(outputs), -1)

    def loss(row: Array, target: Any) -> Array:
        return function(row.reshape(1, *outputs.shape[1:]), jax.tree.map(lambda leaf: leaf[None], target))[0]

    return jax.vmap(jax.jacrev(jax.grad(loss)))(rows, targets)  # forward mode is not had by every loss


def _losses_at(
    compiled: Any, function: Any, outputs: Array, targets: Any, rows: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """In float64, also where JAX has it switched off, unless the function does without.

    It is compiled as a whole: where its operations run one by one, each is compiled for itself.
    """
    part = jax.tree.map(lambda leaf: np.asarray(addressable(leaf))[rows], (outputs, targets))
    try:
        with jax.enable_x64(new_val=True):
            return np.asarray(compiled(*jax.tree.map(_double, part)))
    except Exception:
        return np.asarray(function(*jax.tree.map(jnp.asarray, part)))


def _double(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array
