"""What a program shows of derivatives that are not those of its values: it is traced, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params

from invariant_sharpness.adapters.loss_terms import FunctionTerms, LossTerms, parameters_in_loss
from invariant_sharpness.adapters.sample_weights import unweighted, without_weights
from invariant_sharpness_jax.processes import addressable

_PACKAGES = tuple(f"/site-packages/{name}/" for name in ("jax", "flax", "optax", "equinox", "haiku", "keras"))
"""The functions of these packages have derivatives that can be relied on."""

_MACHINERY = tuple(
    f"/jax/_src/{name}"
    for name in ("lax/", "interpreters/", "ad_util", "core", "source_info", "tree_util", "api", "pjit", "custom_deriv")
)
"""Where an equation is made, whoever asks for it."""


def has_own_derivatives(function: Callable[[Any], Any], argument: Any) -> bool:
    """Whether a function has parts with a derivative of the user's own, or is cut off from its argument somewhere."""
    return any(_is_suspicious(equation) for equation in _equations(jax.make_jaxpr(function)(argument).jaxpr))


def check_loss_of_outputs(
    loss: LossTerms, outputs: jax.Array, targets: Any, parameters: Mapping[str, jax.Array]
) -> None:
    """Raise LossError if a user's loss has one of the parameters inside, which it sees as a constant.

    Parameters
    ----------
    loss, outputs, targets
        The loss, and what it is taken of.
    parameters
        Those that are measured, by name.
    """
    own = unweighted(loss)
    if not isinstance(own, FunctionTerms):
        return
    traced = jax.make_jaxpr(own.loss.function)(outputs, without_weights(targets))
    constants = [array for array in _constants(traced) if hasattr(array, "shape")]
    found = [name for name, array in parameters.items() if any(_is_copy(constant, array) for constant in constants)]
    if found:
        raise parameters_in_loss(loss.name, found)


def _is_copy(constant: Any, parameter: jax.Array) -> bool:
    """Whether a constant is a parameter: the same array, or another one with the same entries that are not all equal."""
    if constant is parameter:
        return True
    if constant.shape != parameter.shape or constant.dtype != parameter.dtype:
        return False
    entries = np.asarray(addressable(parameter))
    return bool((entries != entries.flat[0]).any() and np.array_equal(np.asarray(addressable(constant)), entries))


def _is_suspicious(equation: Any) -> bool:
    name = equation.primitive.name
    if name == "stop_gradient":
        return not _called_by_a_package(equation)
    if name in {"custom_jvp_call", "custom_vjp_call"}:
        inner = equation.params["call_jaxpr"]
        return not any(part in str(inner.jaxpr.debug_info.func_src_info) for part in _PACKAGES)
    return False


def _called_by_a_package(equation: Any) -> bool:
    """Whether gradients are stopped inside of a function of a package, as softmax does at its maximum, and not by the user."""
    traceback = equation.source_info.traceback
    if traceback is None:
        return False
    files = [frame.file_name for frame in traceback.frames]
    callers = [file for file in files if not any(part in file for part in _MACHINERY)]
    return bool(callers) and any(part in callers[0] for part in _PACKAGES)


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """All equations, those of the inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


def _constants(traced: ClosedJaxpr) -> Iterator[Any]:
    """All arrays that a program has inside."""
    yield from traced.consts
    for equation in _equations(traced.jaxpr):
        yield from (atom.val for atom in equation.invars if isinstance(atom, Literal))
        for parameter in equation.params.values():
            if isinstance(parameter, ClosedJaxpr):
                yield from parameter.consts
