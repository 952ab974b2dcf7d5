"""Which parameters are in their own derivatives: read off the program of the second derivative, before anything is computed.

Where all that follows a parameter is piecewise linear, its block of the second derivative is zero by the form of that program: what it moves is
multiplied with slopes that do not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

from invariant_sharpness_jax.trees import Arrays
from invariant_sharpness_jax.walk import CALLS

Names = frozenset[str]


def in_their_own_derivatives(gradient: Callable[[Arrays], Arrays], arrays: Arrays) -> Names:
    """Return those parameters whose part of a gradient may move with them. Nothing of what is computed for it is used."""
    _, second = jax.vjp(gradient, arrays)
    program = jax.make_jaxpr(lambda vector: second(vector)[0])(arrays)
    names = sorted(arrays)  # as the leaves of a dictionary are
    moved_by = _moved_by(program.jaxpr, [frozenset({name}) for name in names])
    return frozenset(name for name, movers in zip(names, moved_by, strict=True) if name in movers)


def _moved_by(program: Jaxpr, arguments: list[Names]) -> list[Names]:
    """By which parameters the results of a program are moved, if these move its arguments; more than are, inside of loops and branches."""
    movers: dict[Any, Names] = dict(zip(program.invars, arguments, strict=True))

    def read(atom: Any) -> Names:
        return frozenset() if isinstance(atom, Constant) else movers.get(atom, frozenset())

    for equation in program.eqns:
        given, name = [read(atom) for atom in equation.invars], equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            results = _moved_by(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, given)
        else:
            results = [frozenset().union(*given)] * len(equation.outvars)
        movers |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]
