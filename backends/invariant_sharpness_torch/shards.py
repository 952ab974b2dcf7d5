"""Data loaders that give each process another part of the data set, and some examples twice.

``DistributedSampler`` and the loaders that accelerate prepares repeat examples, so that all processes have equally many batches, or drop some. With a
process group, the data set itself is read instead: each process takes examples that follow one another, and every example counts once.
"""

from __future__ import annotations

from typing import Any

from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SequentialSampler

from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.errors import DataError
from invariant_sharpness.runtime.processes import Processes

_OF_ACCELERATE = ("DataLoaderShard", "DataLoaderDispatcher")
_OWN_PART = "pass a loader of this process's own part of the data, such as DataLoader(Subset(data, range(rank, len(data), size)), ...)"


def own_part(data: Any, processes: Processes, examples: Examples) -> Any:
    """Return the data of this process, in which no example is repeated.

    Raises
    ------
    DataError
        If the loader reads a part of the data, and there is no group whose processes read the others; or it is not known which part. Says what to
        write.
    """
    if not _is_shard(data):
        return data
    if processes.size == 1:
        return _alone(data)
    if examples == "batches":
        msg = (
            'the loader is divided among processes, which repeats or drops examples, but with examples="batches" a batch is one example: pass a '
            "list of this process's own batches"
        )
        raise DataError(msg)
    return _contiguous(data, processes)


def _is_shard(data: Any) -> bool:
    """Whether a loader was made to read a part of its data set."""
    names = {base.__name__ for base in type(data).__mro__ if base.__module__.startswith("accelerate.")}
    if names & set(_OF_ACCELERATE):
        return True
    return any(getattr(sampler, "num_replicas", 1) > 1 for sampler in _samplers(data))


def _samplers(data: Any) -> list[Any]:
    batch_sampler = getattr(data, "batch_sampler", None)
    return [getattr(data, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]


def _alone(data: Any) -> Any:
    """The loader itself, if there is no other process."""
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    if not several:
        return data
    msg = (
        f"the {type(data).__name__} reads a part of the data set in this process, and other processes read the others: pass "
        f"process_group=torch.distributed.group.WORLD to measure all of them together, or list(loader) to measure this part by itself"
    )
    raise DataError(msg)


def _contiguous(loader: Any, processes: Processes) -> DataLoader[Any]:
    """A loader of those examples of the same data set that follow one another, and are this process's part."""
    _check_order(loader)
    total = len(loader.dataset)
    start, stop = (total * rank // processes.size for rank in (processes.rank, processes.rank + 1))
    return DataLoader(
        loader.dataset,
        batch_size=_batch_size(loader),
        sampler=range(start, stop),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _check_order(loader: Any) -> None:
    """Raise unless it is known that the loaders of all processes together read the whole data set."""
    sampler = _order(loader)
    whole = type(sampler) in (DistributedSampler, SequentialSampler) or (
        (type(sampler) is RandomSampler or type(sampler).__name__ == "SeedableRandomSampler")
        and not sampler.replacement
        and sampler.num_samples == len(loader.dataset)
    )
    if not (whole and len(getattr(sampler, "dataset", loader.dataset)) == len(loader.dataset)):
        msg = (
            f"which examples of its data set the {type(loader).__name__} reads is chosen by a {type(sampler).__name__}, so it is not known how to "
            f"count every one of them once: {_OWN_PART}"
        )
        raise DataError(msg)


def _order(loader: Any) -> Any:
    """The sampler that says in which order examples are read, beneath those that divide them among processes."""
    batch_sampler = loader.batch_sampler
    while hasattr(inner := getattr(batch_sampler, "batch_sampler", None), "sampler"):
        batch_sampler = inner
    return getattr(batch_sampler, "sampler", None)


def _batch_size(loader: Any) -> int | None:
    own: int | None = loader.batch_size
    return own or getattr(loader.batch_sampler, "batch_size", None)
