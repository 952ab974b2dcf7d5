"""Keras models and TensorFlow modules as functions of their trainable parameters."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import keras
import tensorflow as tf

from invariant_sharpness.adapters.whole_batches import Examples, of_example
from invariant_sharpness_keras import inference

Tensors = list[Any]


class ParameterFunction(Protocol):
    """A model whose parameters can be given from outside."""

    def at(self, values: Tensors, /) -> AbstractContextManager[None]:
        """Hold the model at these values; afterwards it is what it was."""
        ...

    def sources(self, values: Tensors, /) -> Tensors:
        """Return what a gradient tape has to watch, of a model that is held at these values."""
        ...

    def placeholders(self, graph: Any, /) -> Tensors:
        """Return the tensors that stand for the parameters in a graph, whose first argument is a list of values."""
        ...

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        """Return the outputs at these sources."""
        ...


def parameter_function(model: Any, examples: Examples = "rows") -> ParameterFunction:
    """Return the function that belongs to the type of ``model``, of rows or of whole batches."""
    function = KerasFunction(model) if isinstance(model, keras.Model) else ModuleFunction(model)
    return function if examples == "rows" else BatchFunction(function)


class KerasFunction:
    """A Keras model in inference mode, called without touching its variables."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def placeholders(self, graph: Any, /) -> Tensors:
        return graph.inputs[: len(self._model.trainable_variables)]

    def at(self, values: Tensors, /) -> AbstractContextManager[None]:
        return nullcontext()

    def sources(self, values: Tensors, /) -> Tensors:
        return values

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        return inference.outputs(self._model, sources, inference.constants(self._model), inputs)


class ModuleFunction:
    """A ``tf.Module``: its variables take the values for the time being."""

    def __init__(self, module: tf.Module) -> None:
        self._module = module

    def placeholders(self, graph: Any, /) -> Tensors:
        """The values themselves for variables that the graph does not read."""
        variables = self._module.trainable_variables
        captured = {id(outside): inside for outside, inside in graph.captures}
        return [
            captured.get(id(v.handle), given)
            for v, given in zip(variables, graph.inputs[: len(variables)], strict=True)
        ]

    @contextmanager
    def at(self, values: Tensors, /) -> Generator[None]:
        variables = list(self._module.variables)
        before = [tf.identity(variable) for variable in variables]
        try:
            for variable, value in zip(self._module.trainable_variables, values, strict=True):
                variable.assign(value)
            yield
        finally:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)

    def sources(self, values: Tensors, /) -> Tensors:
        return list(self._module.trainable_variables)

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        return self._module(inputs)


class BatchFunction:
    """A model of batches that are one example each: arrays have an axis of length one before all others."""

    def __init__(self, function: ParameterFunction) -> None:
        self._function = function
        self.at = function.at
        self.sources = function.sources
        self.placeholders = function.placeholders

    def __call__(self, sources: Tensors, inputs: Any, /) -> Any:
        outputs = self._function(sources, of_example(inputs))
        return outputs[None] if tf.is_tensor(outputs) else outputs
