"""What a loss is made of, in words: two processes that measure the same loss have the same words."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import fields, is_dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

_PLAIN = (str, bytes, int, float, complex, type(None))

_WRAPPED = ("positions", "row_loss", "loss", "function")
"""What the library's own classes call the loss that they hold."""


def loss_attributes(loss: Any, path: str = "the loss", depth: int = 8) -> dict[str, str]:
    """Return the values of all attributes of a loss that are numbers, words or tensors, by what they are.

    Dataclasses, modules, partial functions, methods and the closures of functions are looked into.

    Examples
    --------
    >>> loss_attributes(nn.CrossEntropyLoss(label_smoothing=0.1))["label_smoothing of the loss"]
    '0.1'
    """
    if isinstance(loss, _PLAIN):
        return {path: repr(loss)}
    if isinstance(loss, torch.Tensor):
        return {path: tensor_digest(loss)}
    if isinstance(loss, ModuleType) or depth == 0:
        return {}
    parts = _parts(loss)
    found = {f"the type of {path}": getattr(loss, "__qualname__", type(loss).__qualname__)}
    for name, part in parts.items():
        found |= loss_attributes(part, path if name in _WRAPPED else f"{name} of {path}", depth - 1)
    return found


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return shape, dtype and a digest of the numbers of a tensor."""
    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{tuple(tensor.shape)} {tensor.dtype} {hashlib.sha256(numbers.tobytes()).hexdigest()[:16]}"


def _parts(thing: Any) -> dict[str, Any]:
    """The things that something is made of, by name."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: getattr(thing, field.name) for field in fields(thing)}
    if isinstance(thing, nn.Module):
        own = {name: value for name, value in vars(thing).items() if not name.startswith("_") and name != "training"}
        return {**own, **thing.state_dict()}
    if isinstance(thing, (tuple, list)):
        return {f"entry {number}": value for number, value in enumerate(thing)}
    if isinstance(thing, dict):
        return {str(name): value for name, value in thing.items()}
    if isinstance(thing, partial):
        return {"the function": thing.func, "the arguments": thing.args, **thing.keywords}
    if inspect.ismethod(thing):
        return {"the object": thing.__self__}
    if inspect.isfunction(thing):
        return {**dict(inspect.getclosurevars(thing).nonlocals), "the defaults": thing.__defaults__}
    return {}
