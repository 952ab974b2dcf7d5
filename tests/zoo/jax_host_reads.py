"""How often a program waits for JAX to hand over numbers, counted on the CPU."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import jax
from jax._src.array import ArrayImpl


@contextmanager
def counted_reads() -> Generator[list[str]]:
    """List what is read within the block: ``float``, ``bool`` and ``tolist`` of an array, and a transfer of many by ``device_get``."""
    reads: list[str] = []
    value, device_get = ArrayImpl._value.fget, jax.device_get  # type: ignore[attr-defined]  # a property beneath its type
    inside = False

    def counted_value(array: Any) -> Any:
        if not inside:
            reads.append("value")
        return value(array)

    def counted_transfer(tree: Any) -> Any:
        nonlocal inside
        reads.append("device_get")
        inside = True
        try:
            return device_get(tree)
        finally:
            inside = False

    with patch.object(ArrayImpl, "_value", property(counted_value)), patch.object(jax, "device_get", counted_transfer):
        yield reads
