"""Programs that several processes of torch.distributed run together, on the CPU, and what one process says with all the data."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import invariant_sharpness as ish

Program = Callable[..., Any]

EXAMPLES = 37
"""No number of processes divides it."""

PARTS = {"even": [0, 19, 37], "uneven": [0, 5, 37], "empty": [0, 9, 9, 30, 37]}
"""Where the parts of the processes begin, and end."""


def in_processes(size: int, program: Program, *arguments: Any) -> list[Any]:
    """Return what a program gives, or the error that it raises, on each of so many processes; None of one that dies."""
    context = get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        runs = [
            context.Process(target=_run, args=(rank, size, meeting, sender, program, arguments))
            for rank, (_, sender) in enumerate(pipes)
        ]
        for run, (_, sender) in zip(runs, pipes, strict=True):
            run.start()
            sender.close()
        answers = [_received(receiver) for receiver, _ in pipes]
        for run in runs:
            run.join()
    return answers


def _run(rank: int, size: int, meeting: str, answer: Connection, program: Program, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=timedelta(seconds=300)
    )
    try:
        answer.send(program(*arguments))
    except Exception as error:
        answer.send(error)
    distributed.destroy_process_group()


def _received(answer: Connection) -> Any:
    try:
        return answer.recv()
    except EOFError:
        return None


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    activation = {"relu": nn.ReLU, "gelu": nn.GELU}[kind]
    return nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 3)).double().eval()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(EXAMPLES, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (EXAMPLES,), generator=generator)


def part(bounds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = data()
    chosen = slice(*bounds[distributed.get_rank() :][:2])
    return x[chosen], y[chosen]


def together(model: nn.Module, data: Any, **options: Any) -> Any:
    return ish.oracle(model, data, process_group=distributed.group.WORLD, **options)


def metrics(oracle: Any) -> dict[str, tuple[float, float]]:
    """All metrics of the default set, with their errors."""
    report = ish.measure(oracle, probes=8)
    return {name: (estimate.value, estimate.standard_error or 0.0) for name, estimate in report.items()}


def few(oracle: Any) -> dict[str, Any]:
    """A loss, a gradient, an exact diagonal, and how many examples there are."""
    at = oracle.parameters
    names = frozenset(group.name for group in oracle.groups)
    found = {"gradient": oracle.gradient(at), "diagonal": oracle.gauss_newton_diagonal(at, names)}
    vectors = {name: np.concatenate([a.ravel() for a in oracle.to_numpy(v).values()]) for name, v in found.items()}
    return {"loss": oracle.loss(at), "examples": oracle.examples, **vectors}


def default_set(kind: str, bounds: Sequence[int]) -> Any:
    return metrics(together(network(kind), part(bounds), batch_size=8))


def with_sampler(drop_last: bool) -> Any:
    """A model in DistributedDataParallel, and the loader with which it is trained; one step of training follows."""
    model = nn.parallel.DistributedDataParallel(network("relu"))
    dataset = TensorDataset(*data())
    sampler = DistributedSampler(dataset, shuffle=True, drop_last=drop_last)
    found = few(together(model, DataLoader(dataset, batch_size=8, sampler=sampler)))
    without_gradients = all(parameter.grad is None for parameter in model.parameters())
    x, y = next(iter(DataLoader(dataset, batch_size=8, sampler=sampler)))
    nn.functional.cross_entropy(model(x), y).backward()
    step = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters()]).numpy()
    return {**found, "without gradients": without_gradients, "step": step}


def with_accelerate() -> Any:
    from accelerate import Accelerator

    rank, size = distributed.get_rank(), distributed.get_world_size()
    launched = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ.update(
        launched, MASTER_ADDR="localhost", MASTER_PORT="0"
    )  # as torchrun does; the group is there already
    loader = DataLoader(TensorDataset(*data()), batch_size=4, shuffle=True)
    model, loader = Accelerator(cpu=True).prepare(network("relu"), loader)
    return few(together(model.eval(), loader))


def sampler_alone() -> Any:
    dataset = TensorDataset(*data())
    ish.oracle(network("relu"), DataLoader(dataset, sampler=DistributedSampler(dataset)))


def bad_example() -> Any:
    x, y = part(PARTS["even"])
    together(network("relu"), (torch.full_like(x, torch.nan) if distributed.get_rank() == 1 else x, y))


def raising_later() -> Any:
    """The model of one process raises on a later pass, in the middle of its data."""
    model = network("relu")
    oracle = together(model, part(PARTS["even"]), batch_size=8)
    if distributed.get_rank() == 1:
        model.register_forward_hook(lambda *_: 1 / 0)
    oracle.gradient(oracle.parameters)


def other_model() -> Any:
    model = network("relu")
    with torch.no_grad():
        model[2].bias += distributed.get_rank()
    together(model, part(PARTS["even"]))


def other_loss() -> Any:
    together(network("relu"), part(PARTS["even"]), loss=["cross_entropy", "mse"][distributed.get_rank()])


def other_reduction() -> Any:
    reduction = ["mean", "sum"][distributed.get_rank()]
    together(network("relu"), part(PARTS["even"]), loss=nn.CrossEntropyLoss(reduction=reduction))


def other_smoothing() -> Any:
    smoothing = [0.0, 0.1][distributed.get_rank()]
    together(network("relu"), part(PARTS["even"]), loss=nn.CrossEntropyLoss(label_smoothing=smoothing))


def other_closure() -> Any:
    """A function of the user's, which depends on a number outside."""
    factor = 1.0 + distributed.get_rank()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return factor * nn.functional.cross_entropy(outputs, targets, reduction="none")

    together(network("relu"), part(PARTS["even"]), loss=loss)


def other_seed() -> Any:
    """Vectors that were drawn with another seed in the second process."""
    ish.hutchinson_trace(together(network("gelu"), part(PARTS["even"])), num_matvecs=2, seed=distributed.get_rank())


def other_samples() -> Any:
    """Outputs that are sampled with another seed in the second process."""
    oracle = together(network("relu"), part(PARTS["even"]))
    names = frozenset(group.name for group in oracle.groups)
    oracle.sampled_gauss_newton_diagonal(oracle.parameters, names, range(2), distributed.get_rank())


def overlapping() -> list[str]:
    """The warnings for parts of which two have an example in common."""
    x, y = data()
    own = slice(0, 20) if distributed.get_rank() == 0 else slice(19, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        together(network("relu"), (x[own], y[own]))
        together(network("relu"), part(PARTS["even"]))
    return [str(warning.message) for warning in caught if "parts of several processes" in str(warning.message)]


def other_activation() -> Any:
    together(network(["relu", "gelu"][distributed.get_rank()]), part(PARTS["even"]))


def other_frozen() -> Any:
    """One process measures a parameter that the other does not."""
    model = network("relu")
    model[0].bias.requires_grad_(distributed.get_rank() == 0)
    together(model, part(PARTS["even"]))


def error_of_own_kind() -> Any:
    """An error that other processes cannot make."""

    class NoImage(ish.errors.DataError):
        def __init__(self, file: str, line: int) -> None:
            super().__init__(f"{file}, {line}")

    def failing(*_: Any) -> None:
        raise NoImage("images", 3)

    model = network("relu")
    oracle = together(model, part(PARTS["even"]))
    if distributed.get_rank() == 1:
        model.register_forward_hook(failing)
    oracle.loss(oracle.parameters)


def same_data() -> Any:
    together(network("relu"), data())


def dying() -> Any:
    """The last process dies after the oracle was built."""
    oracle = together(network("relu"), part(PARTS["empty"]))
    if distributed.get_rank() == 3:
        os._exit(1)
    oracle.gradient(oracle.parameters)


def resumed(folder: str) -> Any:
    """Each process has a path of its own, of which that of the first is used; the second time all goes on from there."""
    oracle = together(network("gelu"), part(PARTS["uneven"]))
    path = Path(folder) / str(distributed.get_rank())
    values = []
    for most in (4, 8):
        with ish.checkpoint(path, oracle):
            values.append(ish.hutchinson_trace(oracle, num_matvecs=most).value)
    return values, ish.hutchinson_trace(oracle, num_matvecs=8).value, path.exists()
