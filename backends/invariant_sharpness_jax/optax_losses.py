"""The losses of Optax, told by their names: what each of them is among the losses of the core.

They take ``(outputs, targets)`` and reduce nothing but the classes of a row, so the mean over all rows is measured. One that is not
known is computed by Optax itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from invariant_sharpness.losses import BinaryCrossEntropy, CrossEntropy, FunctionLoss, Huber, PositionLoss, SquaredError
from invariant_sharpness.losses.callables import PerExample, name_of

_LOSSES: dict[str, Callable[..., Any]] = {
    "huber_loss": Huber,
    "l2_loss": partial(SquaredError, factor=0.5),
    "safe_softmax_cross_entropy": CrossEntropy,
    "sigmoid_binary_cross_entropy": BinaryCrossEntropy,
    "softmax_cross_entropy": CrossEntropy,
    "softmax_cross_entropy_with_integer_labels": CrossEntropy,
    "squared_error": SquaredError,
}
_OPTIONS = {"huber_loss": {"delta"}}


def of_optax(loss: Any) -> PositionLoss | FunctionLoss | None:
    """Return the loss behind a function of Optax, or a ``functools.partial`` of one with keywords; None for anything else."""
    function, options = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    if not (getattr(function, "__module__", None) or "").startswith("optax."):
        return None
    name = name_of(function)
    plain = not (isinstance(loss, partial) and loss.args)
    if plain and name in _LOSSES and options.keys() <= _OPTIONS.get(name, set()):
        return PositionLoss(_LOSSES[name](**options))
    return FunctionLoss(PerExample(loss))
