"""Modules that change in a forward pass: a step towards the spectral norm, rows of a table that are rescaled as they are looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from invariant_sharpness.errors import ModelError
from invariant_sharpness_torch.models import class_of, listed


def check_steady(model: nn.Module) -> None:
    """Raise if a module takes a step of power iteration on every forward pass.

    Raises
    ------
    ModelError
        Names the modules and says what to do.
    """
    moving = _names(model, _iterates)
    if moving:
        msg = (
            f"{listed(moving)} are in training mode, where spectral_norm takes a step towards the norm on every pass, so "
            f"that the model is another function each time: call model.eval() before measuring"
        )
        raise ModelError(msg)


def check_rescaled_rows(model: nn.Module) -> None:
    """Raise if a table of embeddings would rescale rows as it is looked up: torch leaves that out of all derivatives.

    Raises
    ------
    ModelError
        Names the modules and says what to do.
    """
    rescaled = _names(model, _rescales_rows)
    if rescaled:
        msg = (
            f"{listed(rescaled)} have rows of a larger norm than max_norm, which the forward pass rescales in place, without "
            f"a derivative. Rescale them once, with torch.no_grad(): "
            f"module.weight.renorm_(module.norm_type, 0, module.max_norm), then set module.max_norm = None: at these parameters "
            f"the function stays the same"
        )
        raise ModelError(msg)


def still_tables(model: nn.Module) -> frozenset[str]:
    """Return the names of the tables of embeddings whose rows have a largest norm, or one of which is held for padding."""
    tables = [name for name, m in model.named_modules() if _has_largest_norm(m) or _has_padding(m)]
    return frozenset(f"{name}.weight".lstrip(".") for name in tables)


def _names(model: nn.Module, chosen: Callable[[nn.Module], bool]) -> list[str]:
    return [repr(name) for name, module in model.named_modules() if chosen(module)]


def _iterates(module: nn.Module) -> bool:
    hooks = [type(hook).__name__ for hook in getattr(module, "_forward_pre_hooks", {}).values()]
    return getattr(module, "training", False) and (type(module).__name__ == "_SpectralNorm" or "SpectralNorm" in hooks)


def _has_largest_norm(module: nn.Module) -> bool:
    kind = class_of(module)
    return issubclass(kind, (nn.Embedding, nn.EmbeddingBag)) and getattr(module, "max_norm", None) is not None


def _has_padding(module: nn.Module) -> bool:
    """Whether a row is a constant by the user's own choice."""
    return (
        issubclass(class_of(module), (nn.Embedding, nn.EmbeddingBag))
        and getattr(module, "padding_idx", None) is not None
    )


def _rescales_rows(module: Any) -> bool:
    if not _has_largest_norm(module):
        return False
    norms = module.weight.detach().norm(p=module.norm_type, dim=1)
    return bool((norms > module.max_norm * (1 + 10 * torch.finfo(norms.dtype).eps)).any())
