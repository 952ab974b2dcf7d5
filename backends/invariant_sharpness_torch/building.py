"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from invariant_sharpness.data import as_batches, leaves
from invariant_sharpness.errors import DataError, InvariantSharpnessError, ModelError, NonFiniteError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_torch.dataset import Dataset, checked_dataset, loader_generators
from invariant_sharpness_torch.forward import Forward, batch_size, default_forward
from invariant_sharpness_torch.groups import parameter_groups
from invariant_sharpness_torch.losses import TorchLoss, resolve_loss
from invariant_sharpness_torch.models import check_finite_parameters, check_modules, in_precision, unwrapped
from invariant_sharpness_torch.oracle import TorchOracle
from invariant_sharpness_torch.safeguard import evaluating, random_state
from invariant_sharpness_torch.trainable import trainable_parameters


def build_oracle(
    model: nn.Module,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    dtype: str | None = None,
    forward: Forward = default_forward,
    groups: Sequence[ParameterGroup] = (),
) -> TorchOracle:
    """The oracle of a module; reads the data once (a loader three times) and checks everything.

    Frozen parameters (``requires_grad=False``) are not measured. Unused ones have zero curvature.

    Parameters
    ----------
    model
        In eval mode if it has dropout or batch normalization.
    data
        ``(x, y)`` tensors or arrays, one batch, a list of batches, or a data loader. A batch is
        ``(inputs, targets)`` or a dictionary with ``"labels"``.
    loss
        A name, ``torch.nn.CrossEntropyLoss``, ``torch.nn.MSELoss``, a loss of :mod:`invariant_sharpness.losses`, or a callable
        ``(outputs, targets) -> one loss per example``.
    batch_size
        For ``(x, y)`` only. Memory grows with it; the value does not depend on it.
    dtype
        ``"float32"`` or ``"float64"``: measure a copy of the model in this precision.
    forward
        ``(model, batch) -> (outputs, targets)``, for batches or models of another form.
    groups
        Descriptions that replace those of the library, for parameters of own modules: which axes count outputs
        and inputs.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the parameter, module, batch or example that is wrong, and what to do.
    """
    model = in_precision(unwrapped(model), dtype)
    check_modules(model)
    parameters = trainable_parameters(model)
    check_finite_parameters(parameters)
    described = parameter_groups(model, frozenset(parameters), groups)
    resolved = resolve_loss(loss)
    dataset = checked_dataset(as_batches(data, batch_size), next(iter(parameters.values())).detach())
    outputs = _check_pass(model, dataset, resolved, forward, parameters)
    return TorchOracle(model, dataset, resolved, forward, parameters, outputs, described)


def _check_pass(
    model: nn.Module, dataset: Dataset, loss: TorchLoss, forward: Forward, parameters: dict[str, nn.Parameter]
) -> int:
    """Look at every batch once; return the number of outputs per example."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    outputs_per_example = 0
    with evaluating(model, parameters, values, loader_generators(dataset.batches.source)), torch.no_grad():
        for index, batch in enumerate(dataset):
            _check_inputs(batch, index)
            outputs, targets = _located(index, _first_pass, forward, model, batch)
            _check_outputs(outputs, batch, index)
            _located(index, loss.check, outputs, targets)
            if index == 0:
                _check_determinism(model, batch, forward, outputs)
            outputs_per_example = max(outputs_per_example, outputs.numel() // len(outputs))
    if outputs_per_example == 0:
        msg = "the data are empty: there is no batch to measure on; pass at least one example"
        raise DataError(msg)
    return outputs_per_example


def _located(index: int, function: Any, *arguments: Any) -> Any:
    """Say in which batch an error of the library happened."""
    try:
        return function(*arguments)
    except InvariantSharpnessError as error:
        msg = f"batch {index}: {error}"
        raise type(error)(msg) from error


def _first_pass(forward: Forward, model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Where model and data do not fit together, the model itself raises: say on what."""
    try:
        return forward(model, batch)
    except InvariantSharpnessError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves(batch) if isinstance(leaf, torch.Tensor))
        msg = (
            f"the model raised {type(error).__name__} on tensors of shapes {shapes}: {error}. Check what the model takes, "
            f"or pass forward=(model, batch) -> (outputs, targets)"
        )
        raise ModelError(msg) from error


def _check_inputs(batch: Any, index: int) -> None:
    if _located(index, batch_size, batch) == 0:
        msg = f"batch {index} is empty: leave it out (drop_last does not help; look at the sampler)"
        raise DataError(msg)
    for position, leaf in enumerate(leaves(batch)):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and not torch.isfinite(leaf).all():
            rows = torch.atleast_1d(leaf)
            wrong = ~torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)
            example = int(wrong.to(torch.int8).argmax())
            msg = (
                f"tensor {position} of batch {index} (shape {tuple(leaf.shape)}) has NaN or infinite entries, "
                f"first in example {example}: clean the data"
            )
            raise NonFiniteError(msg)


def _check_outputs(outputs: torch.Tensor, batch: Any, index: int) -> None:
    if outputs.ndim == 0 or len(outputs) != batch_size(batch):
        msg = (
            f"the model returned outputs of shape {tuple(outputs.shape)} for the {batch_size(batch)} examples of batch {index}: "
            f"the first axis has to count examples"
        )
        raise ModelError(msg)
    if not torch.isfinite(outputs).all():
        msg = (
            f"the outputs of batch {index} are NaN or infinite, although inputs and parameters are finite: "
            f'look for an overflow (does dtype="float64" help?) or a division by zero'
        )
        raise NonFiniteError(msg)


def _check_determinism(model: nn.Module, batch: Any, forward: Forward, outputs: torch.Tensor) -> None:
    with random_state(1, ()):
        again, _ = forward(model, batch)
    if not torch.allclose(again, outputs, rtol=1e-3, atol=1e-3 * float(outputs.abs().max())):
        msg = (
            "two passes over the same batch gave different outputs: the model is random (functional dropout?), so it "
            "has no one loss; call model.eval() and make the forward pass deterministic"
        )
        raise ModelError(msg)
