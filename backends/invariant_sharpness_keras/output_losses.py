"""The losses in the operations of Keras, which TensorFlow's tapes differentiate: values and weights of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from invariant_sharpness.adapters.batch_losses import loss_of_batch, mean_of_batch
from invariant_sharpness.adapters.data import WeightedTargets
from invariant_sharpness.losses import FunctionLoss, PositionLoss

Tensor = Any


class KerasOperations:
    """The functions of the array API that values of losses are written in, by those of ``keras.ops``; arrays have no devices."""

    int32 = "int32"
    concat = staticmethod(ops.concatenate)

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)

    def arange(self, stop: int, *, dtype: Any = None, device: Any = None) -> Tensor:
        del device
        return ops.arange(stop, dtype=dtype)

    def asarray(self, array: Any, *, dtype: Any, device: Any) -> Tensor:
        del device
        return ops.convert_to_tensor(array, dtype=dtype)

    def astype(self, array: Tensor, dtype: Any, *, copy: bool = True) -> Tensor:
        del copy
        return ops.cast(array, dtype)

    def iinfo(self, dtype: Any) -> np.iinfo[Any]:
        return np.iinfo(standardize_dtype(dtype))


def values_and_weights(loss: PositionLoss | FunctionLoss, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """Return the loss of every row and its weight in the mean, both in the dtype of the outputs."""
    if isinstance(targets, WeightedTargets):
        losses, weights = values_and_weights(loss, outputs, targets.targets)
        examples = ops.shape(targets.weights)[0]
        by_example = ops.cast(ops.reshape(targets.weights, (examples, -1)), losses.dtype)
        return ops.reshape(ops.reshape(losses, (examples, -1)) * by_example, (-1,)), weights
    if isinstance(loss, FunctionLoss):
        losses = loss.function(outputs, targets)
        return losses, ops.ones_like(losses)
    xp = KerasOperations()
    return loss.row_values(xp, outputs, targets), loss.row_weights(xp, outputs, targets)


def loss_of_batches(loss: PositionLoss | FunctionLoss) -> FunctionLoss:
    """Return the loss of batches that are one example each: what a function returns, or the mean over the rows."""
    if isinstance(loss, FunctionLoss):
        return loss_of_batch(loss, ops)
    return mean_of_batch(loss.name, lambda outputs, targets: values_and_weights(loss, outputs, targets), ops)
