"""Which parameters are in their own derivatives: read off the program of the second derivative, before anything is computed.

Where all that follows a parameter is piecewise linear, its block of the second derivative is zero by the form of that program: what it moves is
multiplied with slopes that do not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as Constant

from invariant_sharpness_jax.trees import Arrays
from invariant_sharpness_jax.walk import CALLS

Names = frozenset[str]

_LOOPS_AND_BRANCHES = frozenset({"scan", "while", "cond", "custom_jvp_call", "custom_vjp_call"})
"""What is inside of them is not looked at."""


class OwnBlocks(NamedTuple):
    """Parameters that are in their own derivatives, and those that may be, inside of a loop or a branch."""

    certain: Names
    possible: Names


def in_their_own_derivatives(gradient: Callable[[Arrays], Arrays], arrays: Arrays) -> OwnBlocks:
    """Return those parameters whose part of a gradient moves with them. Nothing of what is computed for it is used."""
    _, second = jax.vjp(gradient, arrays)
    program = jax.make_jaxpr(lambda vector: second(vector)[0])(arrays)
    names = sorted(arrays)  # as the leaves of a dictionary are
    inside: set[str] = set()
    moved_by = _moved_by(program.jaxpr, [frozenset({name}) for name in names], inside)
    found = frozenset(name for name, movers in zip(names, moved_by, strict=True) if name in movers)
    return OwnBlocks(found - inside, found & inside)


def _moved_by(program: Jaxpr, arguments: list[Names], inside: set[str]) -> list[Names]:
    """By which parameters the results of a program are moved, if these move its arguments; more than are, ``inside`` of loops and branches."""
    movers: dict[Any, Names] = dict(zip(program.invars, arguments, strict=True))

    def read(atom: Any) -> Names:
        return frozenset() if isinstance(atom, Constant) else movers.get(atom, frozenset())

    for equation in program.eqns:
        given, name = [read(atom) for atom in equation.invars], equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            results = _moved_by(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner, given, inside)
        else:
            results = [frozenset().union(*given)] * len(equation.outvars)
            if name in _LOOPS_AND_BRANCHES:
                inside.update(*given)
        movers |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outvars]
