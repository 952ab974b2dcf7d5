r"""The diagonal from random probes of the Hessian, :math:`\hat h = \varepsilon \circ H(s \circ \varepsilon) / s`, in two stages.

The scales of both stages are equivariant, so every single draw transforms as the diagonal does. The second is
that of the least variance for (17), solved with what the first found.
"""

from __future__ import annotations

from itertools import chain

import numpy as np

from invariant_sharpness import probes as random
from invariant_sharpness.coordinates.scales import balanced, optimal
from invariant_sharpness.estimators.group_diagonals import GroupDiagonal, HostArray
from invariant_sharpness.estimators.parts import equal_parts
from invariant_sharpness.estimators.products import hessian_vector_products
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.vector import ParameterVector


def probed_groups(oracle: CurvatureOracle, names: frozenset[str], probes: int, seed: int) -> dict[str, GroupDiagonal]:
    """A quarter of the probes in the coordinates of ``balanced``, to solve for the scale of the others, which count.

    Cost: ``probes`` Hessian-vector products; memory for ten copies of the named groups.
    """
    pilot = range(probes // 4)
    first = probe_means(oracle, names, balanced(oracle), [pilot], seed)
    scale = optimal(oracle, {name: parts[0] for name, parts in first.items()})
    parts = probe_means(oracle, names, scale, equal_parts(range(len(pilot), probes)), seed)
    return {n: GroupDiagonal(parts[n].mean(axis=0), "probes", parts[n]) for n in names}


def probe_means(
    oracle: CurvatureOracle, names: frozenset[str], scale: ParameterVector, parts: list[range], seed: int
) -> dict[str, HostArray]:
    """Means of the probes with the indices of each part, stacked; all named groups are probed at once."""
    indices = list(chain.from_iterable(parts))
    directions = ((scale * random.signs(oracle, seed, index)).only(names) for index in indices)
    pairs = hessian_vector_products(oracle, directions, len(indices), "probing the diagonal")
    means = []
    for part in parts:
        total: ParameterVector | None = None
        for _ in part:
            direction, product = next(pairs)
            draw = direction * product / (scale * scale)
            total = draw if total is None else total + draw
        if total is not None:
            means.append(oracle.to_numpy(total / float(len(part))))
    return {name: np.stack([mean[name] for mean in means]) for name in names}
