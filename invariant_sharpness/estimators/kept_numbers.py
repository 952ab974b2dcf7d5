"""Numbers that are not computed again after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.checkpoints import State, keep, resumed
from invariant_sharpness.progress import track

Item = TypeVar("Item")


def kept_numbers(
    items: Sequence[Item], number: Callable[[Item], float], label: str, loop: str, *, gradients: float
) -> npt.NDArray[np.float64]:
    """The number of each item, in order; a checkpoint keeps each when it is there.

    Parameters
    ----------
    label
        What is done, for those who watch the progress.
    loop
        As :func:`invariant_sharpness.checkpoints.loop_name`, of all that the numbers depend on. More items go on from fewer.
    gradients
        What a number costs.
    """
    state = resumed(loop)
    found = [] if state is None else state.arrays["numbers"][: len(items)].tolist()
    rest = items[len(found) :]
    for item in track(rest, label, len(rest), gradients):
        found.append(number(item))
        keep(loop, lambda: State({"numbers": np.array(found)}))
    return np.array(found)
