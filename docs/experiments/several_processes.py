"""Each process has a part of the data, and all measure the network on all of them together.

Run it with ``torchrun --nproc-per-node=2 docs/experiments/several_processes.py``.
"""

from __future__ import annotations

import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import invariant_sharpness as ish

torch.manual_seed(0)
x = torch.randn(101, 4, dtype=torch.float64)
dataset = TensorDataset(x, (x[:, 0] > 0).long())
network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).double()

distributed.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(network).eval()
loader = DataLoader(dataset, batch_size=16, sampler=DistributedSampler(dataset))

oracle = ish.oracle(model, loader, process_group=distributed.group.WORLD)
sharpness = ish.normalized_sharpness(oracle)
for rank in range(distributed.get_world_size()):
    distributed.barrier()
    if rank == distributed.get_rank():
        print(f"process {rank}: {sharpness.value!r} on {oracle.examples} examples", flush=True)

if distributed.get_rank() == 0:
    print(f"all the data in one process: {ish.normalized_sharpness(ish.oracle(network, dataset.tensors)).value!r}")
distributed.destroy_process_group()
