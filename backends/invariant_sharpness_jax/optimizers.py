"""The states of Optax: what an optimizer makes of the gradients of a function of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

import jax
import numpy as np
import optax

from invariant_sharpness.adapters.model_metrics import foreign_oracle
from invariant_sharpness.adapters.optimizers import OptimizerState
from invariant_sharpness.errors import ArgumentError, ModelError
from invariant_sharpness_jax.oracle import JaxOracle
from invariant_sharpness_jax.trees import named_leaves

_ADAM, _RMSPROP, _MOMENTUM = "ScaleByAdamState", ("ScaleByRmsState", "ScaleByRmsWithCountState"), "TraceState"
_INJECTED = ("InjectHyperparamsState", "InjectStatefulHyperparamsState")
_PLAIN = (_ADAM, *_RMSPROP, _MOMENTUM, *_INJECTED, "EmptyState", "ScaleByScheduleState")


def read_state(oracle: object, state: Any, hyperparameters: Mapping[str, Any]) -> OptimizerState:
    """Read the preconditioner of the states that ``optax.adam``, ``adamw``, ``rmsprop`` and ``sgd`` make.

    Raises
    ------
    ModelError
        If the state is another one, of other parameters, or has been deleted.
    ArgumentError
        If a hyperparameter is missing or not one of Optax's function.
    """
    if not isinstance(oracle, JaxOracle):
        raise foreign_oracle(oracle, "JAX")
    if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        msg = "the state was donated to a compiled step (donate_argnums), which has deleted its arrays: pass the state that the step returned"
        raise ModelError(msg)
    found = {type(part).__name__: part for part in _parts(state)}
    unknown = sorted(found.keys() - set(_PLAIN))
    if unknown:
        msg = (
            f"the state has a {unknown[0]}, whose effect on the preconditioner is not known: pass the part of it that adam, adamw, rmsprop or sgd "
            f"made, or an invariant_sharpness.OptimizerState"
        )
        raise ModelError(msg)
    injected = [found[name].hyperparams for name in _INJECTED if name in found]
    known = {**(injected[0] if injected else {}), **hyperparameters}
    if _ADAM in found:
        return _adam(oracle, found[_ADAM], known)
    for name in _RMSPROP:
        if name in found:
            return _rmsprop(oracle, found[name], known)
    return _sgd(oracle, known, has_momentum=_MOMENTUM in found)


def _adam(oracle: JaxOracle, state: Any, known: Mapping[str, Any]) -> OptimizerState:
    settings, step = _settings(optax.adam, known), int(state.count)
    if step == 0:
        msg = "the state of optax.adam is that before the first step: take a step before it is read"
        raise ModelError(msg)
    if settings["nesterov"]:
        msg = "optax.adam(nesterov=True) has a threshold that is not known: pass an invariant_sharpness.OptimizerState"
        raise ModelError(msg)
    return OptimizerState(
        name="optax.adam",
        learning_rates=_rates(oracle, settings, step),
        mean_squares=_squares(oracle, state.nu, 1 / (1 - float(settings["b2"]) ** step)),
        epsilon=float(settings["eps"]),
        epsilon_root=float(settings["eps_root"]),
        correction=1 - float(settings["b1"]) ** step,
        momentum=float(settings["b1"]),
        form="average",
        decoupled_decay=float(settings["weight_decay"]),
    )


def _rmsprop(oracle: JaxOracle, state: Any, known: Mapping[str, Any]) -> OptimizerState:
    settings = _settings(optax.rmsprop, known)
    step = int(state.count) if "count" in state._fields else 0  # every tuple has a method of this name
    inside, eps = settings["eps_in_sqrt"], float(settings["eps"])
    correction = 1 / (1 - float(settings["decay"]) ** step) if settings["bias_correction"] else 1.0
    return OptimizerState(
        name="optax.rmsprop",
        learning_rates=_rates(oracle, settings, step),
        mean_squares=_squares(oracle, state.nu, correction),
        epsilon=0.0 if inside else eps,
        epsilon_root=eps if inside else 0.0,
        momentum=float(settings["momentum"] or 0.0),
        form="nesterov" if settings["nesterov"] else "heavy ball",
        decoupled_decay=float(settings["weight_decay"]),
    )


def _sgd(oracle: JaxOracle, known: Mapping[str, Any], *, has_momentum: bool) -> OptimizerState:
    settings = _settings(optax.sgd, known)
    if has_momentum and settings["momentum"] is None:
        msg = "the state has momentum, and Optax keeps its size elsewhere: pass momentum=..., as to optax.sgd"
        raise ArgumentError(msg)
    return OptimizerState(
        name="optax.sgd",
        learning_rates=_rates(oracle, settings, 0),
        momentum=float(settings["momentum"] or 0.0),
        form="nesterov" if settings["nesterov"] else "heavy ball",
        decoupled_decay=float(settings["weight_decay"]),
    )


def _parts(state: Any) -> Iterator[Any]:
    """Yield the named tuples in the tree of a state, without what lies in their arrays of parameters."""
    if not isinstance(state, tuple):
        return
    if hasattr(state, "_fields"):
        yield state
        yield from _parts(getattr(state, "inner_state", ()))
        return
    for part in state:
        yield from _parts(part)


def _settings(function: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of Optax's function, with its own defaults."""
    parameters = signature(function).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    settings = {"weight_decay": 0.0, **defaults, **known}
    if "learning_rate" not in settings:
        msg = (
            f"Optax keeps no hyperparameters in its states: pass those that made the optimizer, as in invariant_sharpness.optimizer_state(oracle, state, "
            f"learning_rate=...), or make it by optax.inject_hyperparams(optax.{function.__name__})"
        )
        raise ArgumentError(msg)
    unknown = sorted(known.keys() - parameters.keys() - {"weight_decay"})
    if unknown:
        msg = f"optax.{function.__name__} has no {', '.join(unknown)}; its keywords are {', '.join(parameters)}, and weight_decay that of optax.adamw"
        raise ArgumentError(msg)
    return settings


def _rates(oracle: JaxOracle, settings: Mapping[str, Any], step: int) -> dict[str, float]:
    given = settings["learning_rate"]
    rate: Any = given(step) if callable(given) else given
    return dict.fromkeys((group.name for group in oracle.groups), float(rate))


def _squares(oracle: JaxOracle, tree: Any, factor: float) -> dict[str, Any]:
    leaves, _ = named_leaves(tree)
    wrong = [g.name for g in oracle.groups if np.shape(leaves.get(g.name, ())) != g.shape or g.name not in leaves]
    if wrong:
        msg = f"the state is that of other parameters: it has {', '.join(leaves)}, and the oracle {wrong[0]!r}"
        raise ModelError(msg)
    return {group.name: np.asarray(leaves[group.name], dtype=np.float64) * factor for group in oracle.groups}
