"""Batches as users have them: put on the device, seen from the host, and taken through the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.data import (
    WeightedTargets,
    batch_size,
    is_per_example,
    is_split,
    leaves,
    map_leaves,
    output_array,
    real_outputs,
    split_batch,
)
from invariant_sharpness.adapters.sample_weights import WEIGHTS_OF_ROWS
from invariant_sharpness.adapters.whole_batches import as_example, of_example
from invariant_sharpness.errors import DataError
from invariant_sharpness_torch.half_precision import held

Forward = Callable[[nn.Module, Any], tuple[torch.Tensor, Any] | tuple[torch.Tensor, Any, torch.Tensor]]
"""A user's own way through the model: ``(model, batch) -> (outputs, targets)``, or with weights ``(outputs, targets, weights)``."""

Evaluate = Callable[[Any], tuple[torch.Tensor, Any]]
"""From a batch to outputs, in single precision at least, and targets."""

_ADVICE = "pass forward=(model, batch) -> (outputs, targets) that picks the outputs"


def default_forward(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return outputs and targets of ``(inputs, targets)``, or of a dictionary with the key ``"labels"``.

    Inputs may be a tensor, a tuple of positional arguments, or a dictionary of keywords; a model that does not take these keywords
    gets the dictionary itself. Outputs may be a tensor, or an object with ``logits``.

    Raises
    ------
    DataError
        If the batch has no such form.
    """
    inputs, targets = split_batch(batch, ", or pass forward=(model, batch) -> (outputs, targets)")
    return output_array(called(model, inputs), torch.Tensor, _ADVICE), targets


def called(model: nn.Module, inputs: Any, **more: Any) -> Any:
    """Return what the model makes of inputs in the form of a batch, with more keywords."""
    if isinstance(inputs, tuple):
        return model(*inputs, **more)
    if not isinstance(inputs, Mapping):
        return model(inputs, **more)
    if _takes(model, inputs):
        return model(**inputs, **more)
    try:
        return model(inputs, **more)
    except Exception as error:
        msg = f"the model has no arguments {', '.join(map(str, inputs))}, and raised {type(error).__name__} with the dictionary itself: {error}"
        raise TypeError(msg) from error


def _takes(model: nn.Module, keywords: Mapping[str, Any]) -> bool:
    """Whether the model has an argument for each of the keywords; if not, it may take the mapping as its one argument."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return True
    return _binds(signature, **keywords) or not _binds(signature, keywords)


def _binds(signature: inspect.Signature, *arguments: Any, **keywords: Any) -> bool:
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        return False
    return True


def of_whole_batches(forward: Forward) -> Forward:
    """Return the forward pass of batches that are one example each."""

    def whole(model: nn.Module, example: Any) -> tuple[torch.Tensor, Any]:
        outputs, targets, *weights = forward(model, of_example(example))
        if weights:
            raise DataError(WEIGHTS_OF_ROWS)
        return outputs[None], as_example(targets)

    return whole


def evaluation(model: nn.Module, forward: Forward) -> Evaluate:
    """Return the forward pass, with outputs that are not rounded again: the loss is computed in single precision at least.

    The model gets a copy of the batch, which it may overwrite: the first layer of some is ``ReLU(inplace=True)``.
    """

    def evaluate(batch: Any) -> tuple[torch.Tensor, Any]:
        outputs, targets, *weights = forward(model, map_leaves(fresh, batch))
        return held(real_outputs(outputs)), WeightedTargets(targets, *map(held, weights)) if weights else targets

    return evaluate


def fresh(leaf: Any) -> Any:
    """Return a copy of a tensor, outside of all graphs; anything else as it is."""
    return leaf.detach().clone().requires_grad_(leaf.requires_grad) if isinstance(leaf, torch.Tensor) else leaf


def to_device(batch: Any, like: torch.Tensor) -> Any:
    """Return the batch as tensors on the device of ``like``; floating-point ones in its dtype, and targets in single precision at least."""
    exact = torch.promote_types(like.dtype, torch.float32)
    if is_split(batch):
        parts = _moved(batch[0], like.device, like.dtype), _moved(batch[1], like.device, exact)
        return type(batch)(*parts) if hasattr(batch, "_fields") else parts
    if isinstance(batch, Mapping):
        return {k: _moved(v, like.device, exact if k == "labels" else like.dtype) for k, v in batch.items()}
    return _moved(batch, like.device, like.dtype)


def host_rows(batch: Any) -> list[npt.NDArray[Any]]:
    """Return the arrays of a batch with one row for every example; in single precision where NumPy does not know torch's dtype."""
    size = batch_size(batch)
    tensors = [leaf for leaf in leaves(batch) if isinstance(leaf, torch.Tensor) and is_per_example(leaf, size)]
    return [_known_to_numpy(tensor.detach().cpu()).reshape(size, -1).numpy() for tensor in tensors]


def _known_to_numpy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _tensor(copy: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor of this array; torch takes the machine's own byte order alone."""
    return torch.as_tensor(copy.astype(copy.dtype.newbyteorder("=")))


def _moved(tree: Any, device: torch.device, dtype: torch.dtype) -> Any:
    def move(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) and hasattr(leaf, "__array__"):
            leaf = _tensor(np.array(leaf))
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return leaf.to(device, dtype) if leaf.is_floating_point() else leaf.to(device)

    return map_leaves(move, tree)
