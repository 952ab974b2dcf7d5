"""Graphs of TensorFlow that batches share whose examples have the same shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class TracedByExample:
    """A function that is traced for each shape of an example, but not for each number of them.

    In a graph that several shapes share, the axes in which they differ are None: a model that asks for the length of its sequences in
    Python then takes the same branch for all of them, without an error.

    Parameters
    ----------
    function
        From tensors, or nests of them, whose first axis is that of the examples, or that have equal shapes in all calls.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._graphs: dict[tuple[tuple[int | None, ...], ...], Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        return self._graph(arguments)(*arguments)

    def get_concrete_function(self, *arguments: Any) -> Any:
        return self._graph(arguments).get_concrete_function(*arguments)

    def _graph(self, arguments: tuple[Any, ...]) -> Any:
        shapes = tuple(tuple(leaf.shape[1:]) for leaf in tf.nest.flatten(arguments))
        if shapes not in self._graphs:
            self._graphs[shapes] = tf.function(self._function, reduce_retracing=True)
        return self._graphs[shapes]
