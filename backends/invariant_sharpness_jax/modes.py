"""Derivatives along a direction: forward over reverse, or by reverse passes alone where an operation has no forward derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from invariant_sharpness_jax.trees import Arrays

Function = Callable[[Any], Any]


class Mode(Protocol):
    """How derivatives along a direction are computed."""

    def along(self, function: Function, point: Any, direction: Any, /) -> tuple[Any, Any]:
        """Return the derivative of a function's first result along the direction, and its second result."""
        ...

    def products(self, gradient: Function, point: Any, directions: Sequence[Any], /) -> tuple[list[Any], Any]:
        """Return the products of a Hessian, given by its gradient, with several directions, and the gradient's second result."""
        ...


class Forward:
    """One pass with tangents for each direction; several share the linearization of the function."""

    def along(self, function: Function, point: Any, direction: Any, /) -> tuple[Any, Any]:
        _, derivative, rest = jax.jvp(function, (point,), (direction,), has_aux=True)
        return derivative, rest

    def products(self, gradient: Function, point: Any, directions: Sequence[Any], /) -> tuple[list[Any], Any]:
        if len(directions) == 1:  # a program of its own: nothing has to be kept for others
            product, rest = self.along(gradient, point, directions[0])
            return [product], rest
        _, linear, rest = jax.linearize(gradient, point, has_aux=True)
        return [linear(direction) for direction in directions], rest


class Reverse:
    """Backward passes alone, for functions with a backward pass of their own (``custom_vjp``, such as ``odeint``)."""

    def along(self, function: Function, point: Any, direction: Any, /) -> tuple[Any, Any]:
        """The pullback is linear in its cotangents, and its transpose is the derivative."""
        value, pullback, rest = jax.vjp(function, point, has_aux=True)
        _, transpose = jax.vjp(lambda cotangents: pullback(cotangents)[0], jax.tree.map(jnp.zeros_like, value))
        return transpose(direction)[0], rest

    def products(self, gradient: Function, point: Any, directions: Sequence[Any], /) -> tuple[list[Any], Any]:
        """A Hessian is its own transpose."""
        _, pullback, rest = jax.vjp(gradient, point, has_aux=True)
        return [pullback(direction)[0] for direction in directions], rest


FORWARD, REVERSE = Forward(), Reverse()


def lacks_forward_mode(error: Exception) -> bool:
    """Whether an operation has a backward pass of its own, and hence no forward derivative."""
    return isinstance(error, TypeError) and "custom_vjp" in str(error)


def alone(function: Callable[[Arrays], Any]) -> Function:
    """Return the function with an empty second result."""
    return lambda at: (function(at), ())
