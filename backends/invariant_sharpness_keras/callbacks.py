"""Monitors in ``fit`` of Keras, which is imported only where a callback is made."""

from __future__ import annotations

from typing import Any, Literal

from invariant_sharpness.adapters.watching import Watcher
from invariant_sharpness.errors import ArgumentError, MissingDependencyError


def keras_callback(monitor: Watcher, *, each: Literal["batch", "epoch"] = "batch") -> Any:
    """Make a callback of Keras that calls a monitor after each batch or epoch, and puts its values into the logs.

    ``History``, ``TensorBoard``, ``CSVLogger`` and others that stand behind it in the list find the last values there, under ``sharpness/`` and the name of
    the metric. The entries have the logs of Keras, such as ``batch_loss`` or ``epoch_val_loss``, and the learning rate of the optimizer's next step.

    Parameters
    ----------
    monitor
        An :class:`invariant_sharpness.Monitor` of the model's inputs and targets.
    each
        What the monitor counts as a step: ``"batch"``, numbered as the optimizer counts them, also when the training is gone on with; or ``"epoch"``, of which the
        first has the number 1, and whose logs hold those of the validation too.

    Returns
    -------
    keras.callbacks.Callback
        For ``model.fit(..., callbacks=[...])``.

    Raises
    ------
    ArgumentError
        If ``each`` is neither.
    MissingDependencyError
        If Keras 3 is not installed.
    """
    if each not in ("batch", "epoch"):
        msg = f"each={each!r}, but the steps of a monitor are those of each 'batch' or of each 'epoch'"
        raise ArgumentError(msg)
    try:
        from invariant_sharpness_keras.watching import BatchWatch, EpochWatch
    except ImportError as cause:
        msg = "a callback of Keras needs it, but it is not installed: pip install keras, and tensorflow, jax or torch"
        raise MissingDependencyError(msg) from cause
    return BatchWatch(monitor) if each == "batch" else EpochWatch(monitor)
