"""Which parameters form one matrix: a weight, or the gain of a norm, with the bias it owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from invariant_sharpness.coordinates.blocks import HostArray, append_bias, from_blocks, split_bias, to_blocks
from invariant_sharpness.protocol import HostArrays, ParameterGroup


@dataclass(frozen=True, slots=True)
class Family:
    """The matrix ``[W | b]`` of one layer, or ``W`` alone."""

    weight: ParameterGroup
    bias: ParameterGroup | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups in the family."""
        return (self.weight.name,) if self.bias is None else (self.weight.name, self.bias.name)

    def blocks(self, arrays: HostArrays) -> HostArray:
        """The family's entries as matrices, of shape (blocks, rows, columns)."""
        weight = to_blocks(self.weight, arrays[self.weight.name])
        return weight if self.bias is None else append_bias(weight, arrays[self.bias.name])

    def arrays(self, blocks: HostArray) -> dict[str, HostArray]:
        """The entry of ``blocks`` that each parameter belongs to."""
        if self.bias is None:
            return {self.weight.name: from_blocks(self.weight, blocks)}
        weight, bias = split_bias(self.weight, blocks)
        return {
            self.weight.name: from_blocks(self.weight, weight),
            self.bias.name: bias.reshape(self.bias.shape),
        }


def weights_alone(groups: Sequence[ParameterGroup]) -> list[Family]:
    """Every weight without its bias."""
    return [Family(group) for group in groups if group.is_weight]


def weights_with_biases(groups: Sequence[ParameterGroup]) -> list[Family]:
    """Every weight, and every gain of a norm, with its bias."""
    biases = {group.owner: group for group in groups if group.role == "bias" and group.owner is not None}
    return [Family(g, biases.get(g.name)) for g in groups if g.is_weight or g.role == "norm"]


def others(groups: Sequence[ParameterGroup], families: Sequence[Family]) -> list[ParameterGroup]:
    """The groups in no family."""
    taken = {name for family in families for name in family.names}
    return [group for group in groups if group.name not in taken]


def root_mean_square(values: HostArray) -> float:
    """Typical size of an entry; 1 for an array of zeros, which has no scale."""
    size = float(np.sqrt(np.mean(values**2))) if values.size else 0.0
    return size if size > 0 else 1.0
