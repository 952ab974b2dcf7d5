"""Parameter groups: what a named parameter is, and which of its axes count what.

A group here is one parameter tensor. Optimizers use the word for sets of parameters with one learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ModelError

Role = Literal["matrix", "convolution", "embedding", "bias", "norm", "other"]
HostArrays = Mapping[str, npt.NDArray[np.float64]]
Rows = npt.NDArray[np.float64]
"""One row for each example, on the host."""


T = TypeVar("T")


class Computed(Mapping[str, T]):
    """Arrays or vectors by name that are computed as they are read, so that one of them is in memory at a time.

    Parameters
    ----------
    names
        The names, in their order.
    compute
        From a name to what it stands for.

    Examples
    --------
    >>> import numpy as np
    >>> squares = Computed(["a", "b"], {"a": np.array([2.0]), "b": np.array([3.0])}.__getitem__)
    >>> list(squares), squares["b"]
    (['a', 'b'], array([3.]))
    """

    def __init__(self, names: Collection[str], compute: Callable[[str], T]) -> None:
        self._names = names
        self._compute = compute

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A named parameter, and which of its axes count outputs, inputs and kernel positions.

    Frameworks store the same layer differently: a dense kernel is ``(out, in)`` in PyTorch and
    ``(in, out)`` in Keras and JAX. The axes say which is which, so that a metric that works row
    by row means the same everywhere.

    Parameters
    ----------
    name
        The framework's name of the parameter, such as ``"conv1.weight"``.
    shape
        The shape in the framework's own layout.
    role
        The role of the parameter. ``"matrix"``, ``"convolution"`` and ``"embedding"`` are weights: they have rows
        and columns. ``"norm"`` is the gain of a normalization layer, ``"bias"`` any shift.
    output_axes, input_axes
        The axes that count output units and input units. All others are kernel positions.
    channel_groups
        The number of groups of a grouped convolution (the number of channels of a depthwise one).
    divided_axes
        Whether it is the input or the output axes that count channels *within* a channel group. A convolution kernel has
        ``(outputs, inputs per group)``; a transposed one, and Keras' depthwise kernel, have
        ``(inputs, outputs per group)``.
    owner
        For a bias: the name of the weight (or norm gain) to whose outputs it is added.

    Examples
    --------
    >>> kernel = ParameterGroup("conv1.weight", (8, 3, 5, 5), "convolution", output_axes=(0,), input_axes=(1,))
    >>> kernel.size, kernel.kernel_axes, kernel.is_weight
    (600, (2, 3), True)
    """

    name: str
    shape: tuple[int, ...]
    role: Role = "other"
    output_axes: tuple[int, ...] = ()
    input_axes: tuple[int, ...] = ()
    channel_groups: int = 1
    divided_axes: Literal["input", "output"] = "input"
    owner: str | None = None

    @property
    def size(self) -> int:
        """The number of parameters in the group."""
        return prod(self.shape)

    @property
    def kernel_axes(self) -> tuple[int, ...]:
        """The axes that count neither outputs nor inputs."""
        used = {*self.output_axes, *self.input_axes}
        return tuple(axis for axis in range(len(self.shape)) if axis not in used)

    @property
    def is_weight(self) -> bool:
        """Whether the group has rows (output units) and columns (input units)."""
        return self.role in ("matrix", "convolution", "embedding")


def given_groups(given: Sequence[ParameterGroup], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ParameterGroup]:
    """Return the groups that users gave by name, for parameters of these shapes.

    Raises
    ------
    ModelError
        If a group is no parameter of the model, or has another shape.
    """
    for group in given:
        shape = shapes.get(group.name, "no trainable parameter")
        if shape != group.shape:
            msg = f"the group {group.name!r} was given with shape {group.shape}, but in the model it is {shape}"
            raise ModelError(msg)
    return {group.name: group for group in given}
