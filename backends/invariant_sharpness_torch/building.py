"""From a module and data, as users have them, to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.alone import Evaluate, check_own_outputs
from invariant_sharpness.adapters.building import checked_data
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness_torch.backward import check_backward, check_unchanged
from invariant_sharpness_torch.batches import Forward, default_forward
from invariant_sharpness_torch.engine import TorchEngine
from invariant_sharpness_torch.groups import parameter_groups, untold_parameters
from invariant_sharpness_torch.losses import resolve_loss
from invariant_sharpness_torch.models import (
    check_finite_parameters,
    check_modules,
    in_precision,
    trainable_parameters,
    unwrapped,
)
from invariant_sharpness_torch.oracle import TorchOracle
from invariant_sharpness_torch.own_losses import check_own_loss
from invariant_sharpness_torch.roles import uses

_ADVICE = "Check what the model takes, or pass forward=(model, batch) -> (outputs, targets)"


@exclusive()
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
    examples: Examples = "rows",
) -> TorchOracle:
    """Return the oracle of a module; read the data once (a loader three times) and check everything.

    Frozen parameters (``requires_grad=False``) are not measured. Unused ones have zero curvature.

    Parameters
    ----------
    model
        In eval mode if it has dropout or batch normalization.
    data
        ``(x, y)`` tensors or arrays, one batch, a list of batches, or a data loader. A batch is
        ``(inputs, targets)`` or a dictionary with ``"labels"``.
    loss
        A name, a loss of ``torch.nn`` or ``torch.nn.functional``, a loss of :mod:`invariant_sharpness.losses`, or a callable
        ``(outputs, targets) -> one loss per example``. With ``reduction="sum"`` the sum over the data is measured.
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
    examples
        ``"batches"``: a batch is one example, which is never cut. The loss returns one number for it; what is measured is the mean
        over the batches.

    Raises
    ------
    ModelError, DataError, LossError, NonFiniteError
        Each names the parameter, module, batch or example that is wrong, and what to do.
    """
    given = unwrapped(model)
    model = in_precision(given, dtype)
    check_modules(model, examples)
    parameters = trainable_parameters(model)
    check_finite_parameters(parameters)
    described = parameter_groups(model, frozenset(parameters), groups)
    originals = () if model is given else tuple(given.named_parameters())
    terms = resolve_loss(loss)
    engine = TorchEngine(model, forward, parameters, described, terms, examples, originals)
    before = engine.parameters()

    def check_first(_: Engine[Any], evaluate: Evaluate, batch: Any, outputs: torch.Tensor) -> None:
        check_unchanged(before, engine.parameters())
        check_own_outputs(engine, evaluate, batch, outputs)
        check_backward(engine, forward, batch)
        engine.examples_at_once(batch)  # measured now, so that no pass runs the model for it
        if forward is default_forward and examples == "rows":
            check_own_loss(model, terms, batch, outputs, engine.eps)

    dataset, outputs = checked_data(
        engine,
        data,
        batch_size=batch_size,
        microbatch=microbatch,
        examples=examples,
        advice=_ADVICE,
        check_first=check_first,
    )
    if untold := untold_parameters(model, described):
        used = uses(engine, untold, dataset)
        engine.groups = parameter_groups(model, frozenset(parameters), groups, used)
    return TorchOracle(engine, dataset, outputs)
