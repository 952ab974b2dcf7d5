r"""The diagonal from random probes of the Hessian, :math:`\hat h = \varepsilon \circ H(s \circ \varepsilon) / s`, in two stages.

The scales of both stages are equivariant, so every single draw transforms as the diagonal does. The second is
that of the least variance for (17), solved with what the first found.

Draws are summed in a few independent parts (:mod:`~invariant_sharpness.estimators.parts_of_draws`): memory holds one copy of the probed groups per
part, however many draws there are.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from types import MappingProxyType

import numpy as np

from invariant_sharpness import prng as random
from invariant_sharpness.coordinates.restricted import Restricted
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.estimators.parts_of_draws import (
    Array,
    Parts,
    compensated,
    equal_parts,
    most_parts,
    stacked,
    whole_vector,
)
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, block_size, multiplied
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle, HostArrays
from invariant_sharpness.runtime.folder import Snapshot
from invariant_sharpness.runtime.loop import Loop, iterate
from invariant_sharpness.runtime.memory import give_back_freed


def probed_groups(
    oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int, known: HostArrays = MappingProxyType({})
) -> dict[str, GroupDiagonal]:
    """Probe the named groups: a quarter of the probes, in ``balanced`` coordinates, says which scale is best for the others, which count.

    What is ``known`` of the diagonal of each group is added to what is probed.
    Cost: ``probes`` Hessian-vector products. Memory: a copy of the named groups for each part, in their own precision.
    """
    pilot = range(probes // 4)
    first = probe_means(oracle, names, balanced(Restricted(oracle, names)), [pilot], seed)
    give_back_freed(oracle)
    curvature = {name: parts[0] + known.get(name, 0.0) for name, parts in first.items()}
    scale = optimal(Restricted(oracle, names), curvature)
    del first, curvature
    ranges = equal_parts(range(len(pilot), probes), most_parts(oracle))
    found = probe_means(oracle, names, scale, ranges, seed)
    for name, diagonal in known.items():
        found[name] += diagonal.astype(found[name].dtype)
    return {name: GroupDiagonal.of_parts(parts, "probes") for name, parts in found.items()}


def _restricted(oracle: CurvatureOracle, names: frozenset[str]) -> CurvatureOracle:
    return Restricted(oracle, names) if names < {group.name for group in oracle.groups} else oracle


def probe_means(
    oracle: CurvatureOracle, names: frozenset[str], scale: ParameterVector, parts: list[range], seed: int
) -> dict[str, Parts]:
    """Return the means of the probes with the indices of each part, stacked; all named groups are probed at once, by vectors of no other groups.

    The signs are those of all parameters, so that they do not depend on which groups are probed.
    """
    part, numbers = _restricted(oracle, names), list(chain.from_iterable(parts))
    ends, size = frozenset(accumulate(map(len, parts))), block_size(part)
    kept = [group.name for group in part.groups]

    def direction_of(number: int) -> ParameterVector:
        signs = random.signs(oracle, seed, number)
        return replace(signs, arrays={name: scale[name] * signs[name] for name in kept})

    def step(sums: _PartSums) -> _PartSums:
        block = numbers[sums.done : sums.done + size]
        directions = [direction_of(number) for number in block]
        for direction, product in zip(directions, multiplied(part, directions), strict=True):
            sums.add(lambda n, u=direction, v=product: u[n] * v[n] / (scale[n] * scale[n]), ends)  # type: ignore[misc]
        return sums

    settings = (scale, seed, *parts, *sorted(names))
    loop = Loop("probing the diagonal", part, settings, total=len(numbers), gradients=GRADIENTS_PER_PRODUCT)
    finished = iterate(step, _PartSums(part, names), loop).finished
    return stacked(part, finished, names, [len(part) for part in parts])


@dataclass
class _PartSums:
    """Compensated sums of draws, part by part, where the oracle is."""

    oracle: CurvatureOracle
    names: frozenset[str]
    done: int = 0
    finished: list[dict[str, Array]] = field(default_factory=list)
    current: dict[str, Array] = field(default_factory=dict)
    rest: dict[str, Array] = field(default_factory=dict)

    def add(self, draw: Callable[[str], Array], ends: Container[int]) -> None:
        """Add a draw, of which the array of each group is asked for, to the part that is not finished yet; ``ends`` says after how many draws a part is."""
        for name in sorted(self.names):
            if name not in self.current:
                self.current[name] = draw(name)
                self.rest[name] = self.oracle.xp.zeros_like(self.current[name])
            else:
                self.current[name], self.rest[name] = compensated(self.current[name], self.rest[name], draw(name))
        self.done += 1
        if self.done in ends:
            self.finished.append(self.current)
            self.current, self.rest = {}, {}

    def save(self) -> Snapshot:
        kept = {f"part {number}": arrays for number, arrays in enumerate(self.finished)}
        if self.current:
            kept |= {f"sum of {self.done}": self.current, f"rest of {self.done}": self.rest}
        counts = {"done": np.array(self.done), "finished": np.array(len(self.finished))}
        return Snapshot(counts, {name: whole_vector(self.oracle, arrays) for name, arrays in kept.items()})

    def restored(self, saved: Snapshot) -> _PartSums:
        vectors = [{name: vector[name] for name in self.names} for vector in saved.vectors.values()]
        finished = int(saved.arrays["finished"])
        current, rest = vectors[finished:] or ({}, {})
        return _PartSums(self.oracle, self.names, int(saved.arrays["done"]), vectors[:finished], current, rest)
