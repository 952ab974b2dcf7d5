"""From a module whose parameters are divided among processes, and data, to an oracle."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from invariant_sharpness import prng
from invariant_sharpness.adapters.alone import Evaluate, check_half
from invariant_sharpness.adapters.building import as_it_is, checked_data
from invariant_sharpness.adapters.data import PASS_SEED, as_batches, fingerprint
from invariant_sharpness.adapters.engine import Arrays, Engine
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import DataError, ModelError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.processes import ALONE, Processes, everywhere, together
from invariant_sharpness_torch.batches import Forward, default_forward
from invariant_sharpness_torch.groups import parameter_groups
from invariant_sharpness_torch.losses import resolve_loss, weighted_loss
from invariant_sharpness_torch.models import check_modules, trainable_parameters
from invariant_sharpness_torch.processes import ProcessGroup, check_same, described
from invariant_sharpness_torch.sharded_engine import ShardedEngine
from invariant_sharpness_torch.sharded_models import Division, division
from invariant_sharpness_torch.sharded_oracle import GradientsAdded, ShardedOracle, in_step
from invariant_sharpness_torch.shards import own_part

_TOLERANCE = 0.05
"""A gradient and a difference of losses that differ by more are those of different functions; rounding in float32 leaves a hundredth."""


def build_sharded_oracle(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    batch_size: int,
    microbatch: int | None,
    max_examples: int | None,
    dtype: str | None,
    forward: Forward,
    groups: Sequence[ParameterGroup],
    examples: Examples,
    process_group: Any,
) -> ShardedOracle:
    """Return the oracle of a module with divided parameters; the arguments are those of :func:`invariant_sharpness_torch.building.build_oracle`.

    Raises
    ------
    ModelError, ArgumentError, ProcessError, DataError, LossError, NonFiniteError
        Each names what is wrong, and says what to do.
    """
    _check_options(dtype, examples)
    divided = division(model, process_group)
    computing = ProcessGroup(divided.group)
    processes = GradientsAdded(divided.group) if divided.kind == "fully_shard" else ALONE

    def prepare() -> tuple[ShardedEngine, Any]:
        engine = _engine(model, loss, forward, groups, divided)
        return engine, own_part(data, processes, examples)

    (engine, part), found = together(computing, prepare, lambda one: described(one[0]))
    check_same(found)
    if processes is ALONE:
        _require_same_data(engine, as_batches(part, batch_size, microbatch), computing)

    def check_first(_: Engine[Any], evaluate: Evaluate, batch: Any, outputs: torch.Tensor) -> None:
        check_half(engine, evaluate, batch, outputs)
        _check_gradient(engine, batch)

    dataset, outputs = checked_data(
        engine,
        part,
        batch_size=batch_size,
        microbatch=microbatch,
        max_examples=max_examples,
        advice="Check what the model takes, or pass forward=(model, batch) -> (outputs, targets)",
        check_first=check_first,
        processes=processes,
        arranged=partial(in_step, processes=processes) if processes.size > 1 else as_it_is,
    )
    return ShardedOracle(engine, dataset, outputs, processes, computing)


def _check_options(dtype: str | None, examples: Examples) -> None:
    if dtype is not None:
        msg = f"dtype={dtype!r} would copy the model, whose parameters are divided among processes: convert it before it is divided"
        raise ModelError(msg)
    if examples != "rows":
        msg = f"examples={examples!r} is not known for models whose parameters are divided among processes: load them into one that is not divided"
        raise ModelError(msg)


def _engine(
    model: nn.Module, loss: Any, forward: Forward, groups: Sequence[ParameterGroup], divided: Division
) -> ShardedEngine:
    check_modules(model)
    parameters = trainable_parameters(model)
    for name, parameter in parameters.items():
        if parameter.dtype.itemsize < 4:
            msg = (
                f"parameter {name!r} has dtype {parameter.dtype}, in which gradients cannot be subtracted from one another: convert the model "
                f"to float32 before it is divided"
            )
            raise ModelError(msg)
    described_groups = parameter_groups(model, frozenset(parameters), groups)
    terms = resolve_loss(loss) if forward is default_forward else weighted_loss(loss)
    return ShardedEngine(model, forward, parameters, described_groups, terms, divided)


def _require_same_data(engine: ShardedEngine, batches: Any, computing: Processes) -> None:
    """Raise unless all processes have the same examples, as tensor parallelism takes them."""

    def seen() -> int:
        with engine.random_state(PASS_SEED, batches.source):
            return sum(fingerprint(engine.host_rows(engine.batch(batch))) for batch in batches) % 2**64

    if len(set(everywhere(computing, seen))) > 1:
        msg = (
            "the parameters are divided by tensor parallelism, where all processes compute on the same examples, but they have different ones: pass "
            "the same data in all processes"
        )
        raise DataError(msg)


def _check_gradient(engine: ShardedEngine, batch: Any) -> None:
    """Compare the gradient with a difference of losses: hooks of the user's, and factors of the reduction, are in the former alone.

    Cost: one gradient and four losses of the first batch of each process.
    """
    at = engine.parameters()
    point_of = ParameterVector(engine.xp, at)
    direction = ParameterVector(engine.xp, engine.from_numpy(_pattern(at)))
    step = engine.differences.step * (point_of.norm() or 1.0) / direction.norm()
    with engine.at(at) as point:
        slope = ParameterVector(engine.xp, point.gradient(batch).arrays[0]).dot(direction)
    fine, coarse = (_change(engine, batch, point_of, direction, length * step) for length in (1, 2))
    uncertain = 2 * abs(fine.slope - coarse.slope) + 10 * engine.eps * fine.size / step
    if abs(slope - fine.slope) > _TOLERANCE * max(abs(slope), abs(fine.slope)) + uncertain:
        msg = (
            f"the gradient of this model is not that of its loss: along a random direction its slope is {slope:.4g}, but the loss changes by "
            f"{fine.slope:.4g}. Are there hooks on gradients, or a factor from set_gradient_divide_factor? Take them off before measuring"
        )
        raise ModelError(msg)


class _Change(NamedTuple):
    """The slope of the loss by a central difference, and the size of the losses."""

    slope: float
    size: float


def _change(engine: ShardedEngine, batch: Any, at: ParameterVector, direction: ParameterVector, step: float) -> _Change:
    up, down = (_total_loss(engine, at + sign * step * direction, batch) for sign in (1, -1))
    return _Change((up - down) / (2 * step), abs(up) + abs(down))


def _pattern(at: Arrays) -> dict[str, Any]:
    return {
        name: prng.uniform_values(0, stream, 0, array.numel()).reshape(array.shape)
        for stream, (name, array) in enumerate(at.items())
    }


def _total_loss(engine: ShardedEngine, at: ParameterVector, batch: Any) -> float:
    with engine.at(dict(at.arrays)) as point:
        own: float = engine.read([point.losses(batch).value])[0]
    return engine.shards.added(own)
