"""Nests of arrays: dictionaries, tuples and lists, in which users keep the parts of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Leaf = Any


def map_leaves(function: Callable[[Leaf], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf of nested dictionaries, tuples and lists; named tuples keep their names."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(function, value) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [map_leaves(function, value) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree)


def leaves(tree: Any) -> list[Leaf]:
    """All leaves of nested dictionaries, tuples and lists, in order."""
    if isinstance(tree, Mapping):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]
