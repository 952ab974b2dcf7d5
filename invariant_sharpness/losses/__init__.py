"""Losses of network outputs, written once for every framework.

A loss is a number per row of outputs, with its gradient and its Hessian in the outputs in closed form (:class:`OutputLoss`), and, where it is
convex, a square root of the Hessian (:class:`ConvexLoss`). :class:`PositionLoss` takes it at every position of outputs with more axes.
"""

from __future__ import annotations

from difflib import get_close_matches

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses.callables import FunctionLoss
from invariant_sharpness.losses.cross_entropy import CrossEntropy
from invariant_sharpness.losses.descriptions import described
from invariant_sharpness.losses.elementwise import AbsoluteError, ElementwiseLoss, Huber, SquaredError
from invariant_sharpness.losses.label_scores import MultiMargin, NegativeLogLikelihood
from invariant_sharpness.losses.likelihoods import BinaryCrossEntropy, KullbackLeibler, Poisson
from invariant_sharpness.losses.next_token import NextTokenCrossEntropy
from invariant_sharpness.losses.normalized_cross_entropy import NormalizedCrossEntropy
from invariant_sharpness.losses.positions import Factors, PositionLoss
from invariant_sharpness.losses.protocol import ConvexLoss, CurvedLoss, OutputLoss, convex

__all__ = [
    "LOSS_NAMES",
    "AbsoluteError",
    "BinaryCrossEntropy",
    "ConvexLoss",
    "CrossEntropy",
    "CurvedLoss",
    "ElementwiseLoss",
    "Factors",
    "FunctionLoss",
    "Huber",
    "KullbackLeibler",
    "MultiMargin",
    "NegativeLogLikelihood",
    "NextTokenCrossEntropy",
    "NormalizedCrossEntropy",
    "OutputLoss",
    "Poisson",
    "PositionLoss",
    "SquaredError",
    "convex",
    "described",
    "named_loss",
]

_NAMED: tuple[OutputLoss, ...] = (
    CrossEntropy(),
    NextTokenCrossEntropy(),
    NormalizedCrossEntropy(),
    BinaryCrossEntropy(),
    SquaredError(),
)
LOSS_NAMES = tuple(loss.name for loss in _NAMED)


def named_loss(name: str) -> OutputLoss:
    """Return the loss that users ask for by its name.

    Parameters
    ----------
    name
        ``"cross_entropy"``, ``"next_token_cross_entropy"``, ``"normalized_cross_entropy"``, ``"binary_cross_entropy"`` or
        ``"mse"``.

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
    if name not in LOSS_NAMES:
        closest = "".join(f" (did you mean {match!r}?)" for match in get_close_matches(name, LOSS_NAMES, 1))
        msg = (
            f"loss={name!r} is not known{closest}: take one of {', '.join(map(repr, LOSS_NAMES))}, or a callable "
            f"(outputs, targets) -> one loss per example"
        )
        raise LossError(msg)
    return _NAMED[LOSS_NAMES.index(name)]
