"""Losses of network outputs, written once for every framework.

A loss is a number per row of outputs, with its gradient and its Hessian in the outputs in closed form (:class:`OutputLoss`), and, where it is
convex, a square root of the Hessian (:class:`ConvexLoss`). :class:`PositionLoss` takes it at every position of outputs with more axes.
"""

from __future__ import annotations

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.callables import FunctionLoss
from invariant_sharpness.losses.cross_entropy import CrossEntropy
from invariant_sharpness.losses.normalized_cross_entropy import NormalizedCrossEntropy
from invariant_sharpness.losses.positions import Factors, PositionLoss
from invariant_sharpness.losses.protocol import ConvexLoss, OutputLoss, convex
from invariant_sharpness.losses.squared_error import SquaredError

__all__ = [
    "ConvexLoss",
    "CrossEntropy",
    "Factors",
    "FunctionLoss",
    "NormalizedCrossEntropy",
    "OutputLoss",
    "PositionLoss",
    "SquaredError",
    "convex",
    "named_loss",
]


def named_loss(name: str) -> OutputLoss:
    """Return the loss that users ask for as ``"cross_entropy"``, ``"normalized_cross_entropy"`` or ``"mse"``.

    Parameters
    ----------
    name
        The name of the loss.

    Returns
    -------
    OutputLoss
        The loss, without class weights.

    Raises
    ------
    LossError
        If there is no such loss; lists the names.

    Examples
    --------
    >>> named_loss("mse")
    SquaredError()
    """
    losses: dict[str, OutputLoss] = {
        "cross_entropy": CrossEntropy(),
        "normalized_cross_entropy": NormalizedCrossEntropy(),
        "mse": SquaredError(),
    }
    if name not in losses:
        msg = (
            f"loss={name!r} is not known: take one of {', '.join(map(repr, losses))}, or a callable "
            f"(outputs, targets) -> one loss per example"
        )
        raise LossError(msg)
    return losses[name]
