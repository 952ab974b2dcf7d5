"""Models whose parameters are divided among processes are refused by name, and left as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

import invariant_sharpness as ish
from zoo.torch_processes import data, network

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_process(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("ran", [False, True])
def test_fully_shard_is_refused_and_works_afterwards(ran: bool) -> None:
    """After a forward pass its parameters look like others."""
    model = network("relu")
    before = model(data()[0])
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    if ran:
        model(data()[0])
    with pytest.raises(ish.errors.ModelError, match=r"module '' went through fully_shard.*full_state_dict"):
        ish.oracle(model, data())
    assert torch.equal(model(data()[0]), before)


def test_tensor_parallel_is_refused() -> None:
    model = parallelize_module(network("relu"), init_device_mesh("cpu", (1,)), {"0": ColwiseParallel()})
    with pytest.raises(ish.errors.ModelError, match=r"'0.weight' is a DTensor.*full_state_dict"):
        ish.oracle(model, data())


def test_wrapper_of_the_first_kind_is_refused_before_anything_is_touched() -> None:
    model = nn.Sequential(network("relu"))
    # what the wrapper does needs an accelerator; its class says what it is
    model[0].__class__ = type("Wrapped", (FullyShardedDataParallel,), {"forward": nn.Sequential.forward})
    with pytest.raises(ish.errors.ModelError, match="module '0' went through FullyShardedDataParallel"):
        ish.oracle(model, data())
