"""From a module and data, as users have them, to an oracle: everything that can be wrong is found here, and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from invariant_sharpness.adapters.alone import Evaluate, check_own_outputs
from invariant_sharpness.adapters.building import CheckFirst, checked_data
from invariant_sharpness.adapters.data import Dataset
from invariant_sharpness.adapters.engine import Engine
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.exclusive import exclusive
from invariant_sharpness.runtime.processes import Processes, everywhere, together
from invariant_sharpness_torch.backward import check_backward, check_unchanged
from invariant_sharpness_torch.batches import Forward, default_forward
from invariant_sharpness_torch.engine import TorchEngine
from invariant_sharpness_torch.groups import parameter_groups, untold_parameters
from invariant_sharpness_torch.losses import resolve_loss, weighted_loss
from invariant_sharpness_torch.models import (
    check_finite_parameters,
    check_modules,
    check_not_sharded,
    has_divided_parameters,
    in_precision,
    trainable_parameters,
    unwrapped,
)
from invariant_sharpness_torch.oracle import TorchOracle
from invariant_sharpness_torch.own_losses import check_own_loss
from invariant_sharpness_torch.processes import check_same, described, processes_in
from invariant_sharpness_torch.roles import uses
from invariant_sharpness_torch.shards import own_part

if TYPE_CHECKING:
    from invariant_sharpness_torch.sharded_oracle import ShardedOracle

_ADVICE = "Check what the model takes, or pass forward=(model, batch) -> (outputs, targets)"


@exclusive()
def build_oracle(
    model: nn.Module,
    data: Any,
    loss: Any = "cross_entropy",
    *,
    batch_size: int = 256,
    microbatch: int | None = None,
    max_examples: int | None = None,
    dtype: str | None = None,
    forward: Forward = default_forward,
    groups: Sequence[ParameterGroup] = (),
    examples: Examples = "rows",
    process_group: Any = None,
) -> TorchOracle | ShardedOracle:
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
    max_examples
        Measure on so many first examples, and read no batch beyond them. Data may have no end then, and of an iterator they are held in memory.
    dtype
        ``"float32"`` or ``"float64"``: measure a copy of the model in this precision.
    forward
        ``(model, batch) -> (outputs, targets)``, for batches or models of another form; or ``(outputs, targets, weights)``, with one weight for
        each example or for each of its positions, by which their losses are multiplied. What is divided by does not change.
    groups
        Descriptions that replace those of the library, for parameters of own modules: which axes count outputs
        and inputs.
    examples
        ``"batches"``: a batch is one example, which is never cut. The loss returns one number for it; what is measured is the mean
        over the batches.
    process_group
        A process group of ``torch.distributed``: ``data`` are this process's own part, and what is measured is the loss of all parts together. Of
        a loader with a ``DistributedSampler``, or of accelerate, the data set is divided anew, and every example counts once. ``max_examples``
        are those of a part. Where parameters are divided, by ``fully_shard``, it is the group of their mesh; under tensor parallelism, where all
        processes have the same data, it is left out.

    Raises
    ------
    ArgumentError, ProcessError, ModelError, DataError, LossError, NonFiniteError
        Each names the parameter, module, batch or example that is wrong, and what to do.
    """
    inner = unwrapped(model)
    check_not_sharded(inner)
    if has_divided_parameters(inner):
        from invariant_sharpness_torch.sharded_building import build_sharded_oracle

        return build_sharded_oracle(
            inner,
            data,
            loss,
            batch_size=batch_size,
            microbatch=microbatch,
            max_examples=max_examples,
            dtype=dtype,
            forward=forward,
            groups=groups,
            examples=examples,
            process_group=process_group,
        )
    processes = processes_in(process_group)

    def prepare() -> tuple[TorchEngine, Any]:
        engine = _engine(model, loss, dtype, forward, groups, examples)
        return engine, own_part(data, processes, examples)

    engine, part = _same_everywhere(processes, prepare)
    dataset, outputs = checked_data(
        engine,
        part,
        batch_size=batch_size,
        microbatch=microbatch,
        max_examples=max_examples,
        examples=examples,
        advice=_ADVICE,
        check_first=_check_first(engine, forward),
        processes=processes,
    )
    _find_roles(engine, groups, dataset, processes)
    return TorchOracle(engine, dataset, outputs, processes)


def _same_everywhere(processes: Processes, prepare: Callable[[], tuple[TorchEngine, Any]]) -> tuple[TorchEngine, Any]:
    """What is prepared in every process, if all measure the same."""
    if processes.size == 1:
        return prepare()
    prepared, found = together(processes, prepare, lambda one: described(one[0]))
    check_same(found)
    return prepared


def _engine(
    given: nn.Module,
    loss: Any,
    dtype: str | None,
    forward: Forward,
    groups: Sequence[ParameterGroup],
    examples: Examples,
) -> TorchEngine:
    """The engine of a model that can be measured."""
    inner = unwrapped(given)
    model = in_precision(inner, dtype)
    check_modules(model, examples)
    parameters = trainable_parameters(model)
    check_finite_parameters(parameters)
    described = parameter_groups(model, frozenset(parameters), groups)
    originals = () if model is inner else tuple(inner.named_parameters())
    plain = forward is default_forward or examples == "batches"
    terms = resolve_loss(loss) if plain else weighted_loss(loss)
    return TorchEngine(model, forward, parameters, described, terms, examples, originals)


def _check_first(engine: TorchEngine, forward: Forward) -> CheckFirst:
    """What is looked at on the first batch."""
    before = engine.parameters()

    def check(_: Engine[Any], evaluate: Evaluate, batch: Any, outputs: torch.Tensor) -> None:
        check_unchanged(before, engine.parameters())
        check_own_outputs(engine, evaluate, batch, outputs)
        check_backward(engine, forward, batch)
        engine.examples_at_once(batch)  # measured now, so that no pass runs the model for it
        if forward is default_forward and engine.examples == "rows":
            check_own_loss(engine.model, engine.loss, batch, outputs, engine.eps)

    return check


def _find_roles(
    engine: TorchEngine, groups: Sequence[ParameterGroup], dataset: Dataset[Any], processes: Processes
) -> None:
    """Describe the parameters whose modules do not tell their axes, as the first batch of the first process that has one uses them."""
    untold = untold_parameters(engine.model, engine.groups)
    if not untold:
        return
    found = everywhere(processes, lambda: uses(engine, untold, dataset))
    used = next((one for one in found if one), {})
    engine.groups = parameter_groups(engine.model, frozenset(group.name for group in engine.groups), groups, used)
