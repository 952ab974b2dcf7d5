"""From a batch, as users have it, to rows of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from invariant_sharpness.data import leaves, map_leaves
from invariant_sharpness.errors import DataError, LossError

Forward = Callable[[nn.Module, Any], tuple[torch.Tensor, torch.Tensor]]
"""A user's own way through the model: ``(model, batch) -> (outputs, targets)``."""


def default_forward(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets of ``(inputs, targets)``, or of a dictionary with the key ``"labels"``.

    Inputs may be a tensor, a tuple of positional arguments or a dictionary of keywords. Outputs may be a
    tensor, or an object with ``logits``.

    Raises
    ------
    DataError
        If the batch has no such form.
    """
    inputs, targets = _split(batch)
    if isinstance(inputs, Mapping):
        outputs = model(**inputs)
    elif isinstance(inputs, tuple):
        outputs = model(*inputs)
    else:
        outputs = model(inputs)
    return _tensor_of(outputs), targets


def to_device(batch: Any, like: torch.Tensor) -> Any:
    """The batch as tensors on the device of ``like``; floating-point ones in its dtype."""

    def move(leaf: Any) -> Any:
        if isinstance(leaf, (np.ndarray, np.generic)):
            leaf = torch.as_tensor(np.array(leaf))
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.to(like.device, like.dtype) if leaf.is_floating_point() else leaf.to(like.device)

    return map_leaves(move, batch)


def batch_size(batch: Any) -> int:
    """Number of examples: the length of the first tensor that has one.

    Raises
    ------
    DataError
        If there is no tensor, or the batch is empty.
    """
    sizes = [leaf.shape[0] for leaf in leaves(batch) if isinstance(leaf, torch.Tensor) and leaf.ndim > 0]
    if not sizes:
        msg = "a batch holds no tensor with an axis of examples: yield (inputs, targets) or a dictionary of tensors"
        raise DataError(msg)
    return int(sizes[0])


def take(batch: Any, start: int, stop: int) -> Any:
    """Some examples of a batch; what is not one entry per example is left as it is."""
    size = batch_size(batch)

    def cut(leaf: Any) -> Any:
        per_example = isinstance(leaf, torch.Tensor) and leaf.ndim > 0 and leaf.shape[0] == size
        return leaf[start:stop] if per_example else leaf

    return map_leaves(cut, batch)


def _split(batch: Any) -> tuple[Any, torch.Tensor]:
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            msg = (
                f"a dictionary batch has the keys {', '.join(map(repr, batch))}, but no 'labels': rename the targets, or "
                f"pass forward=(model, batch) -> (outputs, targets)"
            )
            raise DataError(msg)
        return {key: value for key, value in batch.items() if key != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], torch.Tensor):
        return batch[0], batch[1]
    msg = (
        f"a batch is a {type(batch).__name__}, but it has to be (inputs, targets) or a dictionary with 'labels'; "
        f"for anything else pass forward=(model, batch) -> (outputs, targets)"
    )
    raise DataError(msg)


def _tensor_of(outputs: Any) -> torch.Tensor:
    logits = getattr(outputs, "logits", outputs)
    if isinstance(logits, torch.Tensor):
        return logits
    msg = (
        f"the model returned a {type(outputs).__name__} instead of a tensor: pass "
        f"forward=(model, batch) -> (outputs, targets) that picks the outputs"
    )
    raise LossError(msg)
