"""From what users have to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import as_batches, calling_model, check_inputs, check_outputs, in_batch
from invariant_sharpness.adapters.data import batch_size as examples_in
from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness_torch.dataset import Dataset, checked_dataset, loader_generators
from invariant_sharpness_torch.forward import Forward, default_forward
from invariant_sharpness_torch.groups import parameter_groups
from invariant_sharpness_torch.losses import TorchLoss, resolve_loss
from invariant_sharpness_torch.models import check_finite_parameters, check_modules, in_precision, unwrapped
from invariant_sharpness_torch.oracle import TorchOracle
from invariant_sharpness_torch.pieces import Footprint, footprint
from invariant_sharpness_torch.precision import with_held_outputs
from invariant_sharpness_torch.safeguard import evaluating, random_state
from invariant_sharpness_torch.trainable import trainable_parameters

_ADVICE = "Check what the model takes, or pass forward=(model, batch) -> (outputs, targets)"


def build_oracle(
    model: nn.Module,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    microbatch: int | None = None,
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
    microbatch
        Cut the batches of a loader, or of whatever kind, into pieces of at most so many examples, which count as batches
        in messages. Memory falls with it; the value does not depend on it.
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
    dataset = checked_dataset(as_batches(data, batch_size, microbatch), next(model.parameters()).detach())
    to_outputs = with_held_outputs(forward)
    outputs = _check_pass(model, dataset, resolved, to_outputs, parameters)
    saved = _footprint(model, dataset, to_outputs, parameters)
    return TorchOracle(model, dataset, resolved, to_outputs, parameters, saved, outputs, described)


def _footprint(model: nn.Module, dataset: Dataset, forward: Forward, parameters: dict[str, nn.Parameter]) -> Footprint:
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    generators = loader_generators(dataset.batches.source)
    with evaluating(model, parameters, values, generators):
        return footprint(model, forward, next(iter(dataset)))


def _check_pass(
    model: nn.Module, dataset: Dataset, loss: TorchLoss, forward: Forward, parameters: dict[str, nn.Parameter]
) -> int:
    """Look at every batch once; return the number of outputs per example."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    generators = loader_generators(dataset.batches.source)
    with evaluating(model, parameters, values, generators), torch.no_grad():
        return max(_check_batch(model, batch, index, loss, forward) for index, batch in enumerate(dataset))


def _check_batch(model: nn.Module, batch: Any, index: int, loss: TorchLoss, forward: Forward) -> int:
    """The number of outputs per example of a batch that can be measured on."""
    check_inputs(batch, index)
    with calling_model(batch, index, _ADVICE):
        outputs, targets = forward(model, batch)
    check_outputs(outputs, examples_in(batch), index)
    with in_batch(index):
        loss.check(outputs, targets)
    if index == 0:
        _check_determinism(model, batch, forward, outputs)
    return outputs.numel() // len(outputs)


def _check_determinism(model: nn.Module, batch: Any, forward: Forward, outputs: torch.Tensor) -> None:
    with random_state(1, ()):
        again, _ = forward(model, batch)
    if not torch.allclose(again, outputs, rtol=1e-3, atol=1e-3 * float(outputs.abs().max())):
        msg = (
            "two passes over the same batch gave different outputs: the model is random (functional dropout?), so it "
            "has no one loss; call model.eval() and make the forward pass deterministic"
        )
        raise ModelError(msg)
