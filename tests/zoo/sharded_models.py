"""Programs that two processes run together on models whose parameters are divided between them, and what one process says of the whole model."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import InvariantSharpnessError
from zoo.torch_processes import data, part

KINDS = ("fully_shard", "tensor parallel")
UNEVEN = [0, 9, 37]
EMPTY = [0, 0, 37]


def network() -> nn.Module:
    """Three outputs do not divide evenly between two processes; six units do."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)).double().eval()


def divided(kind: str) -> nn.Module:
    """The network with its parameters divided between two processes."""
    model, mesh = network(), init_device_mesh("cpu", (2,))
    if kind == "fully_shard":
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        return model
    return parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def oracle_of(model: nn.Module, kind: str, bounds: list[int]) -> Any:
    if kind == "fully_shard":
        return ish.oracle(model, part(bounds), batch_size=16, process_group=distributed.group.WORLD)
    return ish.oracle(model, data(), batch_size=16)


def flat(oracle: Any, vector: Any) -> np.ndarray:
    return np.concatenate([array.ravel() for array in oracle.to_numpy(vector).values()])


def values(oracle: Any) -> dict[str, Any]:
    """What is exact: losses, gradients, and what is made of them."""
    at = oracle.parameters
    there = at + 0.1 * prng.signs(oracle, 0, 0)
    chosen = oracle.subset([0, 5, 20, 36])
    return {
        "loss": oracle.loss(at),
        "gradient": flat(oracle, oracle.gradient(at)),
        "gradient elsewhere": flat(oracle, oracle.gradient(there)),
        "loss of a subset": chosen.loss(at),
        "gradient of a subset": flat(oracle, chosen.gradient(at)),
        "examples": oracle.examples,
    }


def trace(oracle: Any) -> ish.Estimate:
    return ish.hutchinson_trace(oracle, num_matvecs=8)


def estimates(oracle: Any) -> dict[str, tuple[float, float]]:
    """What is made of differences, each with its stated error; of the whole model they are exact."""
    found = {
        "spectral norm": ish.hessian_spectral_norm(oracle),
        "trace": ish.measure(oracle, trace)["hutchinson_trace"],
        "Gauss-Newton trace": ish.measure(ish.GaussNewton(oracle), trace)["hutchinson_trace"],
        "Fisher-Rao norm": ish.fisher_rao_norm(oracle, form="full"),
    }
    return {name: (estimate.value, _said(estimate)) for name, estimate in found.items()}


def _said(estimate: ish.Estimate) -> float:
    """By how much the note says that other steps change the value, and what an eigenvalue is off at most."""
    changes = [float(found[1]) for note in estimate.notes if (found := re.search(r"change the value by (\S+)$", note))]
    return sum(changes) + (estimate.relative_gap or 0.0) * abs(estimate.value)


def normalized(oracle: Any) -> Any:
    """(17) of the Gauss-Newton matrix, with its interval."""
    estimate = ish.normalized_sharpness(ish.GaussNewton(oracle), probes=64)
    return estimate.value, estimate.interval(0.99), estimate.method


def measured(kind: str, bounds: list[int]) -> dict[str, Any]:
    """All of them, and whether the model is as it was."""
    model = divided(kind)
    before = [parameter.to_local().clone() for parameter in model.parameters()]
    mine = sum(parameter.to_local().numel() for parameter in model.parameters())
    oracle = oracle_of(model, kind, bounds)
    found = {"exact": values(oracle), "differences": estimates(oracle), "(17)": normalized(oracle)}
    after = [parameter.to_local() for parameter in model.parameters()]
    outputs = model(data()[0])
    return {
        **found,
        "mine": mine,
        "vector": sum(array.to_local().numel() for array in oracle.gradient(oracle.parameters).arrays.values()),
        "same": all(map(torch.equal, before, after)) and all(p.grad is None for p in model.parameters()),
        "outputs": outputs.detach().numpy(),
    }


def refused() -> list[str]:
    """The messages of what cannot be measured, in the same order in both processes."""
    group = distributed.group.WORLD
    partly, half, mixed = network(), network().bfloat16(), network()
    fully_shard(partly[0], mesh=init_device_mesh("cpu", (2,)))
    fully_shard(half, mesh=init_device_mesh("cpu", (2,)))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    fully_shard(mixed, mesh=init_device_mesh("cpu", (2,)), mp_policy=policy)
    sharded, parallel = divided("fully_shard"), divided("tensor parallel")
    odd = divided("fully_shard")
    for module in odd.modules():
        if hasattr(module, "set_gradient_divide_factor"):
            module.set_gradient_divide_factor(1.0)
    oracle = oracle_of(sharded, "fully_shard", UNEVEN)
    x, y = part(UNEVEN)
    rank = distributed.get_rank()
    attempts = [
        lambda: ish.oracle(sharded, (x, y)),
        lambda: ish.oracle(parallel, data(), process_group=group),
        lambda: ish.oracle(parallel, (x, y)),
        lambda: ish.oracle(partly, (x, y), process_group=group),
        lambda: ish.oracle(half, (x, y), process_group=group),
        lambda: ish.oracle(mixed, (x, y), process_group=group),
        lambda: ish.oracle(odd, (x, y), process_group=group),
        lambda: ish.oracle(sharded, (x, y), process_group=group, dtype="float32"),
        lambda: ish.oracle(sharded, (x, y), process_group=group, examples="batches"),
        lambda: ish.oracle(sharded, (torch.full_like(x, torch.nan) if rank else x, y), process_group=group),
        lambda: ish.oracle(sharded, (x, y + 7 * rank), process_group=group),
        lambda: ish.fisher_rao_norm(oracle),
        lambda: ish.hutchinson_trace(oracle, num_matvecs=2, seed=rank),
        lambda: ish.fisher_rao_norm(oracle, form="full").value,
    ]
    return [_message(attempt) for attempt in attempts]


def _message(attempt: Any) -> str:
    try:
        return f"nothing raised: {attempt()}"
    except InvariantSharpnessError as error:
        return f"{type(error).__name__}: {error}"


def dying(kind: str) -> None:
    """The last process dies after the oracle was built."""
    oracle = oracle_of(divided(kind), kind, UNEVEN)
    if distributed.get_rank() == 1:
        os._exit(1)
    oracle.gradient(oracle.parameters)


def resumed(kind: str, folder: str) -> dict[str, list[float]]:
    """A trace and a spectral norm in a few steps, with more steps from there on, and in one go; vectors of the latter are stored."""
    oracle = oracle_of(divided(kind), kind, UNEVEN)

    def found(steps: int) -> list[float]:
        trace = ish.hutchinson_trace(oracle, num_matvecs=steps)
        return [trace.value, ish.hessian_spectral_norm(oracle, tolerance=0.0, max_iterations=steps).value]

    with ish.checkpoint(f"{folder}/{distributed.get_rank()}", oracle):
        found(3)
    with ish.checkpoint(f"{folder}/{distributed.get_rank()}", oracle):
        later = found(6)
    return {"resumed": later, "in one go": found(6)}
