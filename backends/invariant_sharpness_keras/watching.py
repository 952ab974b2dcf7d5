"""Callbacks of Keras that show a model to a monitor while it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from invariant_sharpness.adapters.watching import Watcher, logged_values

Logs = dict[str, Any] | None


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Calls a monitor at steps that are due, and keeps its last values for the logs.

    Parameters
    ----------
    monitor
        What measures.
    """

    def __init__(self, monitor: Watcher) -> None:
        super().__init__()
        self._monitor = monitor
        self._values: Mapping[str, float] = {}

    def watch(self, step: int, logs: Logs, unit: str) -> None:
        """Measure if the step is due, with the logs under names that begin with the unit, and add the values to them.

        On JAX ``self.model`` puts the variables back into the model, which takes time: it is asked for where a step is due alone.
        """
        if self._monitor.is_due(step):
            told = {f"{unit}_{name}": value for name, value in (logs or {}).items()}
            model = self.model
            self._values = logged_values(self._monitor.step(model, step=step, **_optimizer(model), **told))
        if logs is not None:
            logs.update(self._values)


class BatchWatch(Watch):
    """Counts batches, from those that the optimizer has seen."""

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._seen = _batches_seen(self.model)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.watch(self._seen + batch + 1, logs, "batch")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs.update(self._values)


class EpochWatch(Watch):
    """Counts epochs."""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.watch(epoch + 1, logs, "epoch")


def _optimizer(model: Any) -> dict[str, Any]:
    """The optimizer, which one that scales the loss may have wrapped, with its learning rate; nothing for a model that trains itself in another way."""
    outer = getattr(model, "optimizer", None)
    if outer is None:
        return {}
    inner = getattr(outer, "inner_optimizer", outer)
    return {"optimizer": inner, "learning_rate": _number(inner.learning_rate)}


def _batches_seen(model: Any) -> int:
    """The steps of the optimizer, of which each is one of several batches where gradients are accumulated."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 0
    return int(_number(optimizer.iterations)) * (optimizer.gradient_accumulation_steps or 1)


def _number(value: Any) -> float:
    return float(keras.ops.convert_to_numpy(value))
