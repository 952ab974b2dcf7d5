"""Keras models and TensorFlow modules as functions of their trainable parameters."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

import keras
import tensorflow as tf

from invariant_sharpness_keras import inference

Tensors = list[Any]


class ParameterFunction(Protocol):
    """A model whose parameters can be given from outside."""

    def bind(self, values: Tensors, /) -> Tensors:
        """Put the values in place; return what a gradient tape has to watch."""
        ...

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        """The outputs, at the parameters that ``bind`` returned."""
        ...

    @contextmanager
    def restored(self) -> Generator[None]:
        """Afterwards the model is what it was."""
        ...


def parameter_function(model: Any) -> ParameterFunction:
    """The function that belongs to the type of ``model``."""
    return KerasFunction(model) if isinstance(model, keras.Model) else ModuleFunction(model)


class KerasFunction:
    """A Keras model in inference mode, called without touching its variables."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def bind(self, values: Tensors, /) -> Tensors:
        return values

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        return inference.outputs(self._model, sources, inference.constants(self._model), inputs)

    @contextmanager
    def restored(self) -> Generator[None]:
        yield


class ModuleFunction:
    """A ``tf.Module``: its variables take the values for the time being."""

    def __init__(self, module: tf.Module) -> None:
        self._module = module

    def bind(self, values: Tensors, /) -> Tensors:
        for variable, value in zip(self._module.trainable_variables, values, strict=True):
            variable.assign(value)
        return list(self._module.trainable_variables)

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        return self._module(inputs)

    @contextmanager
    def restored(self) -> Generator[None]:
        variables = list(self._module.variables)
        before = [tf.identity(variable) for variable in variables]
        try:
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
