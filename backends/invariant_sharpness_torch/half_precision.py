"""Models in half precision compute as they are; everything that is added up is in single precision.

The vectors of such a parameter are in float32, which holds every value of bfloat16 and float16 exactly. They are rounded where the model
sees them. Sums over examples that torch itself makes in half precision on a CPU are made in single precision: backwards, what comes to a
row of a table from all its occurrences is added up, and so is what comes to the gain of a layer norm from all positions. Most kernels do
this in float32 inside, but some do it in the parameter's own type, where a sum of more than a few hundred terms stands still: in bfloat16,
4096 equal ones may give 256.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_SUMMING = {
    torch.ops.aten.embedding_dense_backward,
    torch.ops.aten._embedding_bag_backward,
    torch.ops.aten.native_layer_norm_backward,
    torch.ops.aten.index_put,
    torch.ops.aten.index_add,
}
"""Kernels that add up in the type of their arguments."""


def held_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the accumulation dtype of a parameter of this type: float32, if it is shorter."""
    return torch.promote_types(dtype, torch.float32)


def held(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in its accumulation dtype; itself, if it has that already."""
    return tensor.to(held_dtype(tensor.dtype))


def model_eps(model: nn.Module) -> float:
    """Return the machine epsilon of the least precise parameter, frozen ones included."""
    return max(torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point())


def exact_sums(parameters: Iterable[torch.Tensor]) -> AbstractContextManager[Any]:
    """Run these kernels in single precision and round what they return; do nothing where that is not needed."""
    needed = any(p.dtype.itemsize < 4 and p.device.type == "cpu" for p in parameters)
    return _ExactSums() if needed else nullcontext()  # type: ignore[no-untyped-call]  # torch declares none


class _ExactSums(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first, named = args[0] if args else None, kwargs or {}
        if func.overloadpacket not in _SUMMING or not _is_half(first):
            return func(*args, **named)
        result = func(*tree_map(lambda a: held(a) if _is_half(a) else a, tuple(args)), **named)
        return tree_map(lambda tensor: None if tensor is None else tensor.to(first.dtype), result)


def _is_half(argument: Any) -> TypeGuard[torch.Tensor]:
    return isinstance(argument, torch.Tensor) and argument.is_floating_point() and argument.dtype.itemsize < 4
