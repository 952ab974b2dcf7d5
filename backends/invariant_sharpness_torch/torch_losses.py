"""torch's own losses, as modules, functions, and functions with some arguments: what each of them is among the losses of the core.

A loss that is not known there is computed by torch itself, without its reduction. What a loss says of ``reduction`` is what is measured:
``"mean"`` divides as torch does, ``"sum"`` does not divide, and the values of ``"none"`` are averaged over all rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from invariant_sharpness.errors import LossError
from invariant_sharpness.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    FunctionLoss,
    Huber,
    KullbackLeibler,
    MultiMargin,
    NegativeLogLikelihood,
    OutputLoss,
    Poisson,
    PositionLoss,
    SquaredError,
)
from invariant_sharpness.losses.callables import PerExample, name_of

Reduction = Literal["mean", "sum"]

_MODULES: dict[Callable[..., Any], type[nn.Module]] = {
    functional.binary_cross_entropy: nn.BCELoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    functional.cosine_embedding_loss: nn.CosineEmbeddingLoss,
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.ctc_loss: nn.CTCLoss,
    functional.gaussian_nll_loss: nn.GaussianNLLLoss,
    functional.hinge_embedding_loss: nn.HingeEmbeddingLoss,
    functional.huber_loss: nn.HuberLoss,
    functional.kl_div: nn.KLDivLoss,
    functional.l1_loss: nn.L1Loss,
    functional.margin_ranking_loss: nn.MarginRankingLoss,
    functional.mse_loss: nn.MSELoss,
    functional.multi_margin_loss: nn.MultiMarginLoss,
    functional.multilabel_margin_loss: nn.MultiLabelMarginLoss,
    functional.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
    functional.nll_loss: nn.NLLLoss,
    functional.poisson_nll_loss: nn.PoissonNLLLoss,
    functional.smooth_l1_loss: nn.SmoothL1Loss,
    functional.soft_margin_loss: nn.SoftMarginLoss,
    functional.triplet_margin_loss: nn.TripletMarginLoss,
}
"""The module of each function; they have the same options."""

_PAIRS = "pairs or triplets of outputs: write it as a callable (outputs, targets) -> one loss per example"
_MORE_ARGUMENTS = {
    "GaussianNLLLoss": (
        "a variance besides outputs and targets: let the model return means and logarithms of variances as two outputs, and pass "
        "lambda outputs, targets: torch.nn.functional.gaussian_nll_loss("
        'outputs[:, 0], targets.reshape(-1), outputs[:, 1].exp(), reduction="none")'
    ),
    "CTCLoss": "the lengths of inputs and targets besides them, and has no second derivative in torch: take another loss",
    "LinearCrossEntropyLoss": (
        "features, and has parameters of its own: make its linear layer a part of the model, and pass torch.nn.CrossEntropyLoss()"
    ),
    "CosineEmbeddingLoss": _PAIRS,
    "MarginRankingLoss": _PAIRS,
    "TripletMarginLoss": _PAIRS,
    "TripletMarginWithDistanceLoss": _PAIRS,
}
"""Losses that take more than outputs and targets, and what to do."""


def of_torch(loss: Any) -> PositionLoss | FunctionLoss | None:
    """Return the loss behind a torch module or function; None for anything else.

    Parameters
    ----------
    loss
        A loss of ``torch.nn``, a function of ``torch.nn.functional``, or a ``functools.partial`` of one with keywords.

    Raises
    ------
    LossError
        If it takes more than outputs and targets, or an option that is not known.
    """
    module = _module(loss)
    kind = _kind(module)
    if kind is None:
        return None
    if kind.__name__ in _MORE_ARGUMENTS:
        msg = f"torch.nn.{kind.__name__} takes {_MORE_ARGUMENTS[kind.__name__]}"
        raise LossError(msg)
    if kind in _LOSSES:
        return _LOSSES[kind](module)
    return _as_torch_computes(module)


def _module(loss: Any) -> Any:
    """The module of a function with keywords; a module itself."""
    function, options = (loss.func, loss.keywords) if isinstance(loss, partial) else (loss, {})
    if isinstance(loss, nn.Module) or not callable(function) or not _is_key(function):
        return loss
    if isinstance(loss, partial) and loss.args:
        return loss
    try:
        return _MODULES[function](**options)
    except TypeError as error:
        msg = f"{name_of(loss)} with {', '.join(options)} is not known as a loss of single examples: {error}"
        raise LossError(msg) from error


def _is_key(function: Any) -> bool:
    try:
        return function in _MODULES
    except TypeError:
        return False


def _kind(module: Any) -> type[nn.Module] | None:
    """The class of torch's whose forward pass computes the loss: a subclass with one of its own is another loss."""
    if not isinstance(module, nn.Module):
        return None
    owner = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    return owner if owner.__module__ == "torch.nn.modules.loss" else None


def _as_torch_computes(module: Any) -> FunctionLoss:
    """The module's own values, from a copy that reduces nothing; of an example, what the module does with all of them."""
    summed: Reduction = "sum" if module.reduction == "sum" else "mean"
    rows = copy.copy(module)
    rows.reduction = "none"
    _check_shared(module)
    return FunctionLoss(PerExample(rows, summed), summed)


def _check_shared(module: nn.Module) -> None:
    """Raise if there is a weight that may count examples: which examples share a batch is not the loss's to know."""
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.ndim > 1:
        msg = f"the weight of {type(module).__name__} has shape {tuple(weight.shape)}: one weight for each output is known, (K,)"
        raise LossError(msg)


def _cross_entropy(module: nn.CrossEntropyLoss) -> PositionLoss:
    divisor: Literal["weights", "rows"] = "weights" if module.reduction == "mean" else "rows"
    return _of_classes(
        CrossEntropy(_numbers(module.weight), module.ignore_index, module.label_smoothing, divisor), module
    )


def _log_likelihood(module: nn.NLLLoss) -> PositionLoss:
    divisor: Literal["weights", "rows"] = "weights" if module.reduction == "mean" else "rows"
    return _of_classes(NegativeLogLikelihood(_numbers(module.weight), module.ignore_index, divisor), module)


def _multi_margin(module: nn.MultiMarginLoss) -> PositionLoss:
    return _of_classes(MultiMargin(module.p, module.margin, _numbers(module.weight)), module)


def _of_classes(loss: OutputLoss, module: Any) -> PositionLoss:
    return PositionLoss(loss, class_axis=1, reduction=_reduction(module))


def _squared(module: nn.MSELoss) -> PositionLoss:
    return _of_elements(SquaredError(reduction=_reduction(module)))


def _absolute(module: nn.L1Loss) -> PositionLoss:
    return _of_elements(AbsoluteError(reduction=_reduction(module)))


def _huber(module: nn.HuberLoss) -> PositionLoss:
    return _of_elements(Huber(float(module.delta), reduction=_reduction(module)))


def _smooth_absolute(module: nn.SmoothL1Loss) -> PositionLoss:
    if module.beta == 0:
        return _of_elements(AbsoluteError(reduction=_reduction(module)))
    return _of_elements(Huber(float(module.beta), 1 / float(module.beta), reduction=_reduction(module)))


def _binary(module: nn.BCEWithLogitsLoss) -> PositionLoss:
    weight, pos_weight = _array(module.weight), _array(module.pos_weight)
    return _of_elements(BinaryCrossEntropy(weight, pos_weight, reduction=_reduction(module)))


def _poisson(module: nn.PoissonNLLLoss) -> PositionLoss:
    return _of_elements(Poisson(module.log_input, module.full, module.eps, reduction=_reduction(module)))


def _divergence(module: nn.KLDivLoss) -> PositionLoss:
    """``"batchmean"`` is the mean over the examples of the sum over their outputs."""
    of_example: Reduction = "sum" if module.reduction in ("sum", "batchmean") else "mean"
    return PositionLoss(KullbackLeibler(module.log_target, reduction=of_example), reduction=_reduction(module))


_LOSSES: dict[type[nn.Module], Callable[[Any], PositionLoss]] = {
    nn.BCEWithLogitsLoss: _binary,
    nn.CrossEntropyLoss: _cross_entropy,
    nn.HuberLoss: _huber,
    nn.KLDivLoss: _divergence,
    nn.L1Loss: _absolute,
    nn.MSELoss: _squared,
    nn.MultiMarginLoss: _multi_margin,
    nn.NLLLoss: _log_likelihood,
    nn.PoissonNLLLoss: _poisson,
    nn.SmoothL1Loss: _smooth_absolute,
}


def _of_elements(loss: Any) -> PositionLoss:
    return PositionLoss(loss, reduction=loss.reduction)


def _reduction(module: Any) -> Reduction:
    return "sum" if module.reduction == "sum" else "mean"


def _numbers(weight: torch.Tensor | None) -> tuple[float, ...] | None:
    return None if weight is None else tuple(weight.tolist())


def _array(weight: torch.Tensor | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    return None if weight is None else weight.detach().to("cpu", torch.float64).numpy().copy()
