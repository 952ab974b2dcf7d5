"""Models whose parameters are divided among processes: by ``fully_shard``, with data of its own in each process, or by tensor parallelism."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from invariant_sharpness.errors import ArgumentError, ModelError
from invariant_sharpness_torch.holding import holding_state
from invariant_sharpness_torch.models import fully_sharded_modules
from invariant_sharpness_torch.processes import ProcessGroup
from invariant_sharpness_torch.sharded_arrays import as_divided, own, placed

_WHOLE = (
    "get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)) of torch.distributed.checkpoint.state_dict has all "
    "parameters, in every process: load them into a model that is not divided"
)


class Division(NamedTuple):
    """How the parameters of a model are divided.

    Parameters
    ----------
    kind
        Whether each process has examples of its own, or all have the same.
    group
        The processes among which they are divided.
    """

    kind: Literal["fully_shard", "tensor parallel"]
    group: distributed.ProcessGroup


def division(model: nn.Module, process_group: Any) -> Division:
    """Return how the parameters are divided; nothing of the model is computed.

    Raises
    ------
    ModelError
        If they are divided in a way that cannot be measured; names the parameter or the module, and says what to do.
    ArgumentError
        If the process group is not the one that belongs to the model.
    """
    sharded = fully_sharded_modules(model)
    for module in sharded:
        module.reshard()
    meshes = {name: p.device_mesh for name, p in model.named_parameters() if isinstance(p, DTensor)}
    for name, mesh in meshes.items():
        if mesh.ndim != 1 or mesh != next(iter(meshes.values())):
            msg = f"parameter {name!r} is divided over {mesh}, but one mesh of one dimension for all parameters can be measured: {_WHOLE}"
            raise ModelError(msg)
    group = next(iter(meshes.values())).get_group()
    if not sharded:
        _require_no_group(process_group)
        return Division("tensor parallel", group)
    _check_fully_sharded(model, sharded)
    _require_group(process_group, group)
    return Division("fully_shard", group)


def _check_fully_sharded(model: nn.Module, sharded: list[Any]) -> None:
    plain = [name for name, p in model.named_parameters() if p.requires_grad and not isinstance(p, DTensor)]
    if plain:
        msg = (
            f"parameter {plain[0]!r} is not divided, though others went through fully_shard, so that its gradient would be that of one process: "
            f"call fully_shard(model) on the whole model, too"
        )
        raise ModelError(msg)
    for module in sharded:
        state = module._get_fsdp_state()
        if getattr(state._mp_policy, "param_dtype", None) or getattr(state._mp_policy, "reduce_dtype", None):
            msg = (
                f"fully_shard has a mixed precision policy for {type(module).__name__}, in whose precision gradients cannot be subtracted from one "
                f"another: measure a model that went through fully_shard without mp_policy"
            )
            raise ModelError(msg)


def _require_no_group(process_group: Any) -> None:
    if process_group is not None:
        msg = (
            "process_group is given, but the parameters are divided by tensor parallelism, where all processes have the same examples: leave "
            "process_group out, and pass the same data in all processes"
        )
        raise ArgumentError(msg)


def _require_group(given: Any, group: distributed.ProcessGroup) -> None:
    same = isinstance(given, distributed.ProcessGroup) and distributed.get_process_group_ranks(
        given
    ) == distributed.get_process_group_ranks(group)
    if not same:
        msg = (
            "the model went through fully_shard, whose processes compute together, each on its own part of the data: pass "
            "process_group=mesh.get_group() of its mesh, which is torch.distributed.group.WORLD by default, and this process's part of the data"
        )
        raise ArgumentError(msg)


class Shards:
    """The parameters of a model, of which this process has a part of each.

    Parameters
    ----------
    model
        With divided parameters.
    parameters
        Those that are measured, by name.
    division
        How they are divided.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter], division: Division) -> None:
        self._model = model
        self._parameters = parameters
        self.processes = ProcessGroup(division.group)
        self._averages = self.processes.size if division.kind == "fully_shard" else 1

    @contextmanager
    def held(self) -> Generator[None]:
        """Put everything of the model back to what it was afterwards: parameters, gradients, buffers and modes."""
        kept = {name: own(p.detach()).clone() for name, p in self._parameters.items()}
        gradients = [(p, p.grad) for p in self._parameters.values()]
        try:
            with holding_state(self._model, self._parameters):
                yield
        finally:
            self._write(kept)
            for parameter, gradient in gradients:
                parameter.grad = gradient

    def move(self, arrays: Mapping[str, torch.Tensor]) -> None:
        """Write other values into the parameters."""
        self._write({name: own(array) for name, array in arrays.items()})

    def _write(self, parts: Mapping[str, torch.Tensor]) -> None:
        for module in fully_sharded_modules(self._model):
            module.reshard()  # gathered parameters would be used again
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                own(parameter).copy_(parts[name])

    def added(self, number: float) -> float:
        """Return the sum of a number over the processes, if each has examples of its own."""
        return sum(self.processes.gather(number)) if self._averages > 1 else number

    def gradient(self, value: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the derivatives of a sum over the examples of all processes, of which ``value`` is this one's part.

        All have to call it for the same forward pass. ``fully_shard`` divides gradients by the number of processes.
        """
        for parameter in self._parameters.values():
            parameter.grad = None
        if value.requires_grad:
            (value * self._averages).backward()
        found = {name: _gradient_of(parameter) for name, parameter in self._parameters.items()}
        for parameter in self._parameters.values():
            parameter.grad = None
        return found


def _gradient_of(parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        return as_divided(torch.zeros_like(own(parameter.detach())), parameter)
    return placed(parameter.grad.detach(), parameter)
