"""How often a program waits for the device to hand over numbers, counted on the CPU, where nothing has to wait."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_READING = {
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
    torch.Tensor.__array__,
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.numpy,
    torch.Tensor.cpu,
}
"""What would wait for a device if the tensor were there."""


class _Functions(TorchFunctionMode):
    """Calls from Python, each once, whatever it is made of."""

    def __init__(self, read: Callable[[str], None]) -> None:
        super().__init__()
        self._read = read
        self.inside = False

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        reads = func in _READING and not self.inside
        if not reads:
            return func(*args, **(kwargs or {}))
        self._read(func.__name__)
        self.inside = True
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.inside = False


class _Kernels(TorchDispatchMode):
    """Reads that torch makes within its own kernels."""

    def __init__(self, read: Callable[[str], None], functions: _Functions) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch declares none
        self._read = read
        self._functions = functions

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and not self._functions.inside:
            self._read("_local_scalar_dense")
        return func(*args, **(kwargs or {}))


@contextmanager
def counted_reads() -> Generator[list[str]]:
    """List what is read from torch's tensors within the block."""
    reads: list[str] = []
    functions = _Functions(reads.append)
    with functions, _Kernels(reads.append, functions):
        yield reads
