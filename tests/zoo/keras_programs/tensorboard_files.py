"""What TensorBoard reads in the files that a training run has written."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray


def scalars(folder: str | Path, tag: str) -> dict[int, float]:
    """The values of a tag by step, in single precision, as scalars of the first or of the second version."""
    events = EventAccumulator(str(folder), {TENSORS: 0}).Reload()
    if tag in events.Tags()["scalars"]:
        return {event.step: event.value for event in events.Scalars(tag)}
    return {event.step: float(make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
