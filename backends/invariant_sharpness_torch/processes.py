"""The processes of ``torch.distributed`` that have the data together, and what has to be the same on all of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import distributed, nn

from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.errors import ArgumentError, ModelError, ProcessError
from invariant_sharpness.protocol import ParameterGroup
from invariant_sharpness.runtime.processes import ALONE, Processes
from invariant_sharpness_torch.loss_attributes import loss_attributes, tensor_digest

_CHUNK = 2**22
"""So many numbers of each process are on one device at a time."""


class ProcessGroup:
    """The processes of a group.

    Arrays are gathered, and added in double precision in the order of the ranks, so that all processes have the same bits by construction: an
    ``all_reduce`` adds in an order that depends on the backend, the network and the number of entries.

    Parameters
    ----------
    group
        A process group of ``torch.distributed``.
    """

    def __init__(self, group: distributed.ProcessGroup) -> None:
        self._group = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)

    def gather(self, told: Any, /) -> list[Any]:
        answers: list[Any] = [None] * self.size
        with talking():
            distributed.all_gather_object(answers, told, group=self._group)
        return answers

    def add(self, array: torch.Tensor, holders: Sequence[bool], /) -> torch.Tensor:
        chunks = array.detach().reshape(-1).split(_CHUNK)
        return torch.cat([self._added(chunk, holders) for chunk in chunks]).reshape(array.shape)

    def _added(self, chunk: torch.Tensor, holders: Sequence[bool]) -> torch.Tensor:
        on_host = distributed.get_backend(self._group) == "gloo"
        own = (chunk.cpu() if on_host else chunk).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        with talking():
            distributed.all_gather(parts, own, group=self._group)
        first, *others = (part.double() for part, holds in zip(parts, holders, strict=True) if holds)
        for part in others:
            first = first + part
        return first.to(chunk.device, chunk.dtype)


_OF_A_GROUP = ("gloo", "NCCL", "Connection closed", "timed out", "Timed out")
"""Words in the errors of process groups, which may come out of a model whose parameters are divided."""


@contextmanager
def in_model() -> Generator[None]:
    """Where a model computes together with those of other processes, and one of them has ended, say so; other errors are the model's own."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in _OF_A_GROUP):
            raise
        with talking():
            raise


@contextmanager
def talking() -> Generator[None]:
    """Where another process has ended, or waits for something else, the group raises."""
    try:
        yield
    except ProcessError:
        raise
    except RuntimeError as error:
        msg = (
            f"the process group raised {type(error).__name__}: {error}. Has another process ended, or does it compute something else? All "
            f"processes have to call the same functions with the same arguments"
        )
        raise ProcessError(msg) from error


def processes_in(group: Any) -> Processes:
    """Return the processes of a group; this one alone, if there is none.

    Raises
    ------
    ArgumentError
        If it is no process group, or this process is not in it.
    """
    if group is None:
        return ALONE
    if not (distributed.is_available() and distributed.is_initialized()):
        msg = "process_group is given, but torch.distributed is not initialized: call torch.distributed.init_process_group first"
        raise ArgumentError(msg)
    if not isinstance(group, distributed.ProcessGroup):
        msg = f"process_group={group!r} is no process group: pass torch.distributed.group.WORLD, or what new_group returned, in a process that is in it"
        raise ArgumentError(msg)
    return ProcessGroup(group) if distributed.get_world_size(group) > 1 else ALONE


class Described(NamedTuple):
    """What has to be the same on all processes: a digest of every parameter and buffer, and in words what is measured."""

    state: dict[str, str]
    asked: dict[str, str]


class Measured(Protocol):
    """A model with a loss, of which there is one in every process."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def loss(self) -> LossTerms: ...
    @property
    def reduction(self) -> str: ...
    @property
    def examples(self) -> str: ...
    @property
    def groups(self) -> tuple[ParameterGroup, ...]: ...


def described(engine: Measured) -> Described:
    """Describe what one process measures."""
    modules = {f"the module {name!r}": type(module).__qualname__ for name, module in engine.model.named_modules()}
    groups = {f"the description of {group.name!r}": str(group) for group in engine.groups}
    loss = {"the loss": engine.loss.name, "the reduction of the loss": engine.reduction, "examples": engine.examples}
    return Described(_state_of(engine.model), {**loss, **loss_attributes(engine.loss), **modules, **groups})


def _state_of(model: nn.Module) -> dict[str, str]:
    """Digests of all that each process has the whole of."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor_digest(tensor) for name, tensor in tensors.items() if not hasattr(tensor, "device_mesh")}


def check_same(found: Sequence[Described]) -> None:
    """Raise unless all processes measure the same loss of the same model.

    Raises
    ------
    ModelError
        Names the first parameter or buffer that differs, and what to do.
    ProcessError
        Names what else differs.
    """
    for rank, other in enumerate(found[1:], start=1):
        for name in _differing(found[0].state, other.state):
            msg = (
                f"{name!r} of the model is not the same in process {rank} as in process 0, so that there is no one model to measure: "
                f"send parameters and buffers from one process to the others, with torch.distributed.broadcast(tensor.data, 0) for each of "
                f"model.state_dict().values(). In DistributedDataParallel, the running statistics of batch normalization differ after training"
            )
            raise ModelError(msg)
        for what in _differing(found[0].asked, other.asked):
            here, there = (one.asked.get(what, "not measured") for one in (found[0], other))
            msg = (
                f"{what} is {here} in process 0, but {there} in process {rank}, so that no one loss is measured: build the oracle with the "
                f"same model and the same arguments, but for the data, in all processes"
            )
            raise ProcessError(msg)


def _differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]
