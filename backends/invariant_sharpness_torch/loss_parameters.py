"""A loss that depends on the parameters beside the outputs, as one with a penalty does: no sum over outputs knows of it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.loss_terms import FunctionTerms, LossTerms, parameters_in_loss
from invariant_sharpness.adapters.sample_weights import unweighted


def check_loss_of_outputs(
    loss: LossTerms,
    outputs: torch.Tensor,
    targets: Any,
    parameters: Mapping[str, nn.Parameter],
    originals: Sequence[tuple[str, nn.Parameter]] = (),
) -> None:
    """Raise LossError if a user's loss has a derivative in a parameter with outputs held fixed, or another value at other parameters.

    Parameters
    ----------
    loss, outputs, targets
        The loss, and what it is taken of.
    parameters
        Those that are measured, by name, inside ``holding``.
    originals
        Those of the user's model, where a copy of it is measured.
    """
    if not isinstance(unweighted(loss), FunctionTerms):
        return
    fixed = outputs.detach()
    losses, _ = loss.values(fixed, targets)
    found = _connected(losses, [*parameters.items(), *originals])
    if not found:
        with torch.no_grad():
            here = losses.detach().clone()
            with _moved(parameters.values()):
                there, _ = loss.values(fixed, targets)
        found = [] if torch.equal(here.nan_to_num(), there.nan_to_num()) else list(parameters)
    if found:
        raise parameters_in_loss(loss.name, found)


def _connected(losses: torch.Tensor, named: Sequence[tuple[str, nn.Parameter]]) -> list[str]:
    """The names of the parameters that are in the graph of the losses."""
    if not losses.requires_grad:
        return []
    slopes = torch.autograd.grad(losses.sum(), [parameter for _, parameter in named], allow_unused=True)
    return [name for (name, _), slope in zip(named, slopes, strict=True) if slope is not None]


@contextmanager
def _moved(parameters: Iterable[nn.Parameter]) -> Generator[None]:
    """All parameters at other values."""
    held = [(parameter, parameter.data) for parameter in parameters]
    try:
        for parameter, data in held:
            parameter.data = 1.5 * data + 1
        yield
    finally:
        for parameter, data in held:
            parameter.data = data
