"""Monitors in the training loops of Lightning and of transformers, which are imported only where a callback is made."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from invariant_sharpness.adapters.watching import Watcher, logged_values
from invariant_sharpness.errors import MissingDependencyError


def lightning_callback(monitor: Watcher) -> Any:
    """Make a callback of Lightning that calls a monitor after each batch, and logs its values by ``self.log_dict``.

    They go to the trainer's logger, be it TensorBoard, Weights & Biases or another one. In training on several devices the first process alone measures.

    Parameters
    ----------
    monitor
        An :class:`invariant_sharpness.Monitor` of the module's inputs and targets.

    Returns
    -------
    lightning.Callback
        For ``Trainer(callbacks=[...])``.

    Raises
    ------
    MissingDependencyError
        If neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """
    base: Any = _lightning_callback()

    class Watch(base):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
            if not trainer.is_global_zero:
                return
            entry = monitor.step(pl_module, step=trainer.global_step, **_optimizer(trainer.optimizers))
            if values := logged_values(entry):
                pl_module.log_dict(values, batch_size=1, rank_zero_only=True)

    return Watch()


def trainer_callback(monitor: Watcher, log: Callable[[dict[str, float]], None] | None = None) -> Any:
    """Make a ``transformers.TrainerCallback`` that calls a monitor after each step of the optimizer.

    Parameters
    ----------
    monitor
        An :class:`invariant_sharpness.Monitor`, mostly with ``forward=``, which takes inputs, targets and logits of a batch apart.
    log
        ``trainer.log``, by which values go to what the trainer reports to: ``trainer.add_callback(trainer_callback(monitor, trainer.log))``.

    Returns
    -------
    transformers.TrainerCallback
        For ``trainer.add_callback``.

    Raises
    ------
    MissingDependencyError
        If transformers is not installed.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as cause:
        msg = "a callback of transformers needs it, but it is not installed: pip install transformers"
        raise MissingDependencyError(msg) from cause

    class Watch(TrainerCallback):
        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
        ) -> None:
            if not state.is_world_process_zero:
                return
            entry = monitor.step(model, step=state.global_step, **_optimizer([optimizer]))
            if log is not None and (values := logged_values(entry)):
                log(values)

    return Watch()


def _lightning_callback() -> Any:
    for name in ("lightning", "pytorch_lightning"):
        if find_spec(name) is not None:
            return import_module(name).Callback
    msg = "a callback of Lightning needs it, but it is not installed: pip install lightning"
    raise MissingDependencyError(msg)


def _optimizer(optimizers: list[Any]) -> dict[str, Any]:
    """The optimizer that a framework may have wrapped, with its learning rate; nothing where there are several."""
    if len(optimizers) != 1 or optimizers[0] is None:
        return {}
    inner = getattr(optimizers[0], "optimizer", optimizers[0])
    return {"optimizer": inner, "learning_rate": inner.param_groups[0]["lr"]}
