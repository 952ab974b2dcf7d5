"""Models of Flax, Equinox and Haiku as functions of their parameters, in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from invariant_sharpness_jax.application import Application

if TYPE_CHECKING:
    import equinox
    from flax import linen, nnx


def from_linen(module: linen.Module, variables: Mapping[str, Any], **options: Any) -> tuple[Application, Any]:
    """``apply`` and parameters of a Flax Linen module.

    All collections but ``"params"``, such as batch statistics, stay as they are.

    Parameters
    ----------
    module
        Not changed.
    variables
        As ``module.init`` returns them.
    options
        Keywords of the module's call that put it into inference mode, such as ``train=False``.

    Raises
    ------
    KeyError
        If ``variables`` has no ``"params"``.
    """
    fixed = {name: collection for name, collection in variables.items() if name != "params"}

    def function(parameters: Any, inputs: Any) -> Any:
        return _called(lambda *x, **k: module.apply({"params": parameters, **fixed}, *x, **k, **options), inputs)

    return Application(function), variables["params"]


def from_nnx(module: nnx.Module) -> tuple[Application, Any]:
    """``apply`` and parameters of a Flax NNX module; of a copy in inference mode, ``module.eval()``.

    Everything that is not an ``nnx.Param``, such as batch statistics, stays as it is.

    Parameters
    ----------
    module
        Not changed.
    """
    import jax
    from flax import nnx

    from invariant_sharpness_jax.nnx_groups import described_groups

    copy: Any = nnx.clone(module)
    copy.eval()
    definition, parameters, *rest = nnx.split(copy, nnx.Param, ...)

    def function(tree: Any, inputs: Any) -> Any:
        state = jax.tree.map(lambda leaf: leaf, parameters)
        nnx.replace_by_pure_dict(state, tree)
        return _called(nnx.merge(definition, state, *rest), inputs)

    return Application(function, described_groups(copy)), nnx.to_pure_dict(parameters)


def from_equinox(module: equinox.Module, state: Any = None) -> tuple[Application, Any]:
    """``apply`` and parameters of an Equinox module of one example; of a copy in inference mode.

    The parameters are all arrays of floating-point numbers in the module. Examples are mapped over by ``jax.vmap``.

    Parameters
    ----------
    module
        Called with one example (several, if inputs are a tuple). Not changed.
    state
        Of a module with state: ``module(x, state)`` returns outputs and another state, which is dropped.
    """
    import equinox
    import jax

    from invariant_sharpness_jax.equinox_groups import described_groups

    parameters, static = equinox.partition(equinox.nn.inference_mode(module), equinox.is_inexact_array)

    def function(tree: Any, inputs: Any) -> Any:
        model: Any = equinox.combine(tree, static)

        def of_example(*x: Any, **keywords: Any) -> Any:
            return model(*x, **keywords) if state is None else model(*x, state, **keywords)[0]

        return _called(jax.vmap(of_example), inputs)

    return Application(function, described_groups(parameters)), parameters


def from_haiku(transformed: Any, parameters: Any, state: Any = None, **options: Any) -> tuple[Application, Any]:
    """``apply`` and parameters of a function transformed by Haiku, without random numbers.

    Parameters
    ----------
    transformed
        What ``haiku.transform`` or ``haiku.transform_with_state`` returned.
    parameters
        As ``transformed.init`` returns them.
    state
        Of a function with state; stays as it is.
    options
        Keywords of the function that put it into inference mode, such as ``is_training=False``.
    """

    def function(tree: Any, inputs: Any) -> Any:
        if state is None:
            return _called(lambda *x, **k: transformed.apply(tree, None, *x, **k, **options), inputs)
        return _called(lambda *x, **k: transformed.apply(tree, state, None, *x, **k, **options)[0], inputs)

    return Application(function), parameters


def _called(model: Callable[..., Any], inputs: Any) -> Any:
    """Inputs may be an array, a tuple of positional arguments or a dictionary of keywords."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)
