"""Keras' own losses, as objects, functions and names: what each of them is among the losses of the core.

One that is not known there is computed by Keras itself, without its reduction. ``"sum_over_batch_size"`` is the mean that is measured,
``"sum"`` is not divided, and the values of ``"none"`` are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal

import keras
from keras import ops

from invariant_sharpness.adapters.loss_terms import check_one_target
from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    FunctionLoss,
    Huber,
    OutputLoss,
    Poisson,
    PositionLoss,
    SquaredError,
)
from invariant_sharpness.losses.callables import name_of, takes_targets_first

Reduction = Literal["mean", "sum"]

_CLASSES = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "huber": keras.losses.Huber,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
    "mean_squared_error": keras.losses.MeanSquaredError,
    "poisson": keras.losses.Poisson,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}
"""The class of each function that the core knows; they have the same options."""


@dataclass(frozen=True, slots=True)
class KerasFunction:
    """A function ``(targets, outputs) -> losses`` as one ``(outputs, targets) -> one loss per example``.

    Parameters
    ----------
    function
        Keras' function, or the ``call`` of a loss.
    reduction
        Over all axes of its losses but that of the examples.
    name
        In messages and reports.
    of_probabilities
        Whether outputs have to be probabilities.
    """

    function: Callable[[Any, Any], Any]
    reduction: Reduction
    name: str
    of_probabilities: bool = False

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def is_of_keras(self) -> bool:
        """Whether it has one loss for each row: what users write may return anything."""
        return _is_of_keras(getattr(self.function, "func", self.function))

    def __call__(self, outputs: Any, targets: Any) -> Any:
        if self.is_of_keras:
            check_one_target(self.name, targets)
        losses = self.function(targets, outputs)
        if len(losses.shape) < 2:
            return losses
        axes = tuple(range(1, len(losses.shape)))
        return ops.mean(losses, axis=axes) if self.reduction == "mean" else ops.sum(losses, axis=axes)


def of_keras(loss: Any) -> PositionLoss | FunctionLoss | None:
    """Return the loss behind Keras' object, function, partial function or name; None for anything else.

    A function of the user's whose first argument is called ``y_true`` is taken in that order.

    Raises
    ------
    LossError
        If the loss divides by the sample weights.
    """
    loss = _by_name(loss) if isinstance(loss, str) else loss
    if isinstance(loss, keras.losses.Loss):
        return _of_object(loss)
    function, options = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    if not callable(function) or not (_is_of_keras(function) or takes_targets_first(loss)):
        return None
    name = name_of(function)
    if _is_of_keras(function) and name in _CLASSES and not (isinstance(loss, partial) and loss.args):
        return _of_object(_CLASSES[name](**options))
    return FunctionLoss(KerasFunction(loss, "mean", name, _wants_probabilities(loss, options)))


def _by_name(name: str) -> Any:
    try:
        return keras.losses.get(name)
    except ValueError:
        return None


def _is_of_keras(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").split(".")[0] == "keras"


def _wants_probabilities(function: Any, options: dict[str, Any]) -> bool:
    """Whether a function has the option ``from_logits``, and it is not set."""
    parameters = signature(function).parameters
    return "from_logits" in parameters and not options.get("from_logits", parameters["from_logits"].default)


def _of_object(loss: keras.losses.Loss) -> PositionLoss | FunctionLoss:
    options = _options(loss) if _is_of_keras(_owner_of_call(loss)) else {}
    if loss.reduction == "mean_with_sample_weight":
        msg = (
            f'{loss.name} with reduction="mean_with_sample_weight" is not supported: take "sum_over_batch_size", and divide the sample '
            f"weights by their mean"
        )
        raise LossError(msg)
    reduction: Reduction = "sum" if loss.reduction == "sum" else "mean"
    found = _of_options(loss, options) if options else None
    if found is not None:
        return PositionLoss(found, reduction=reduction)
    of_probabilities = options.get("from_logits") is False
    return FunctionLoss(KerasFunction(loss.call, reduction, name_of(loss), of_probabilities), reduction)


def _options(loss: keras.losses.Loss) -> dict[str, Any]:
    """The arguments that a loss was made with; some stand in its configuration alone, others among those of its function."""
    return {**loss.get_config(), **getattr(loss, "_fn_kwargs", {})}


def _owner_of_call(loss: keras.losses.Loss) -> type:
    """The class that computes the loss: a subclass with a ``call`` of its own is another loss."""
    return next(cls for cls in type(loss).__mro__ if "call" in vars(cls))


def _of_options(loss: keras.losses.Loss, options: dict[str, Any]) -> OutputLoss | None:
    """The loss of the core with the same values; None if there is none."""
    if options.get("axis", -1) != -1:
        return None
    if options.get("from_logits", False):
        return _of_logits(loss, options)
    if loss.reduction == "sum":  # over positions, of the mean over the outputs of each
        return None
    if isinstance(loss, keras.losses.MeanSquaredError):
        return SquaredError()
    if isinstance(loss, keras.losses.MeanAbsoluteError):
        return AbsoluteError()
    if isinstance(loss, keras.losses.Huber):
        return Huber(float(options["delta"]))
    if isinstance(loss, keras.losses.Poisson):
        return Poisson(log_input=False, eps=keras.backend.epsilon())
    return None


def _of_logits(loss: keras.losses.Loss, options: dict[str, Any]) -> OutputLoss | None:
    divisor: Literal["weights", "rows"] = "rows" if loss.reduction in ("sum", "none", None) else "weights"
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        ignored = options.get("ignore_class")
        return CrossEntropy(divisor=divisor, **({} if ignored is None else {"ignore_index": ignored}))
    if isinstance(loss, keras.losses.CategoricalCrossentropy):
        return CrossEntropy(label_smoothing=options["label_smoothing"], divisor=divisor)
    if isinstance(loss, keras.losses.BinaryCrossentropy) and loss.reduction != "sum":
        return BinaryCrossEntropy(label_smoothing=options["label_smoothing"])
    return None
