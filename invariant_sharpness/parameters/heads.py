"""Attention heads: how the output or input units of a weight fall into runs that are mixed with one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy.typing as npt

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.matrices import rows_first


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of an attention weight: runs of equal length along its outputs or its inputs.

    A kernel that makes queries, keys and values at once, each for n heads, has 3n of them.

    Parameters
    ----------
    count
        The number of heads.
    side
        Where they are: ``"output"`` for queries, keys and values, ``"input"`` for the projection of what the heads put out.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness import ParameterGroup
    >>> query = ParameterGroup("query", (4, 3), "matrix", output_axes=(0,), input_axes=(1,))
    >>> Heads(2).split(query, np.arange(12.0).reshape(4, 3))[1].tolist()  # rows count inputs, columns the units of head 1
    [[6.0, 9.0], [7.0, 10.0], [8.0, 11.0]]
    """

    count: int
    side: Literal["output", "input"] = "output"

    def split(self, group: ParameterGroup, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the entries of a weight as ``(heads, rows, width)``, where rows count its units on the other axis.

        Raises
        ------
        ArgumentError
            If it is no weight with rows and columns alone, or its units cannot be cut into so many equal runs.
        """
        self._check(group)
        matrix = rows_first(group, values)
        matrix = matrix if self.side == "output" else matrix.T
        return matrix.reshape(self.count, -1, matrix.shape[1]).transpose(0, 2, 1)

    def _check(self, group: ParameterGroup) -> None:
        if not group.is_weight or group.kernel_axes or group.channel_groups != 1:
            msg = f"{group.name!r} has no heads: it is no dense weight, but has the role {group.role!r} and shape {group.shape}"
            raise ArgumentError(msg)
        if self.side not in ("output", "input"):
            msg = f'side={self.side!r}, but the heads of a weight are along its "output" or its "input" units'
            raise ArgumentError(msg)
        axes = group.output_axes if self.side == "output" else group.input_axes
        units = prod(group.shape[axis] for axis in axes)
        if self.count < 1 or units % self.count:
            msg = f"{group.name!r} has {units} {self.side} units, which are not {self.count} heads of equal width"
            raise ArgumentError(msg)


def check_names(groups: tuple[ParameterGroup, ...], heads: Mapping[str, Heads]) -> None:
    """Raise ``ArgumentError`` if heads are named of a parameter that does not exist; the message lists the weights."""
    unknown = sorted(heads.keys() - {group.name for group in groups})
    if unknown:
        weights = ", ".join(group.name for group in groups if group.is_weight)
        msg = f"there is no parameter {', '.join(map(repr, unknown))}; the weights are {weights}"
        raise ArgumentError(msg)
