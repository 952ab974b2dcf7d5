"""What a graph shows of derivatives that are not those of its values: it is read, and nothing is computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_CUT_OFF = {"StopGradient", "PreventGradient", "PyFunc", "PyFuncStateless", "EagerPyFunc"}
_BRANCHES = {"f", "body", "then_branch", "else_branch", "branches"}
"""Attributes that name graphs."""


def has_own_derivatives(graph: Any) -> bool:
    """Whether a graph has operations with a derivative that is not TensorFlow's own, or is cut off from its parameters somewhere."""
    return any(_is_suspicious(operation) for operation in _operations(graph))


def _is_suspicious(operation: Any) -> bool:
    return operation.type in _CUT_OFF or any(
        name == "_gradient_op_type" and attribute.s.startswith(b"CustomGradient")
        for name, attribute in operation.node_def.attr.items()
    )


def _operations(graph: Any) -> Iterator[Any]:
    """All operations, those of the graphs that are called included."""
    for operation in graph.get_operations():
        yield operation
        for name, attribute in operation.node_def.attr.items():
            for function in [attribute.func, *attribute.list.func] if name in _BRANCHES else ():
                if function.name:
                    yield from _operations(graph._get_function(function.name).graph)
