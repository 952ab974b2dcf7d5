"""Which groups get columns of the Hessian, unit vectors or draws at layers, and which are probed: by what each way costs, before anything is computed.

All costs are in gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.protocol import (
    CurvatureOracle,
    LayerUnits,
    NodeCurvatureOracle,
    ResidualProductOracle,
    capability,
)

GRADIENTS_PER_DRAW = 0.7
"""What a draw of one layer costs, as measured on encoders of some layers."""

GRADIENTS_PER_OPERATION = 0.9
"""What a draw at one operation costs, for all layers below it, as measured on encoders of some layers and on convolutions."""

GRADIENTS_PER_RESIDUAL_PRODUCT, GRADIENTS_PER_BOTH_PRODUCTS = 3.0, 6.0
"""What a probe of the residual part costs, as measured: a product with it alone, less on small blocks, or one with the Hessian, 2.6 to 3.2, and one with the Gauss-Newton matrix, 2.2 to 2.6."""

GRADIENTS_PER_COLUMNS = 6.0
"""What columns outside of layers may cost in the place of each probe: they are exact."""

LEAST_DRAWS, LEAST_PROBES = 4, 4

_WORTH = 2.0
"""A draw at operations may cost so many times what draws at the layers of convolutions do: its variance is 3 to 5 times less there, as ``docs/experiments/node_draws.py`` measures."""


class Plan(NamedTuple):
    """What the groups get in which the outputs are not affine.

    Parameters
    ----------
    columns
        Those whose columns are computed.
    units
        Those of layers that get unit vectors.
    drawn
        Those of layers at which signs are drawn.
    above
        Those of layers below operations at which signs are drawn, with the numbers of these operations.
    probed
        All others.
    draws, probes
        How many draws there are at each layer, and how many probes.
    samples
        How many samples of the outputs the Gauss-Newton diagonal is the mean of; none if it is exact.
    of_residual
        Whether the residual part alone is probed, beside the Gauss-Newton diagonal, and not the Hessian.
    gradients
        What everything costs.
    """

    columns: frozenset[str]
    units: Mapping[str, LayerUnits]
    drawn: Mapping[str, LayerUnits]
    above: Mapping[str, int]
    probed: frozenset[str]
    draws: int = 0
    probes: int = 0
    samples: int = 0
    of_residual: bool = True
    gradients: float = 0.0

    @property
    def words(self) -> str:
        """What is chosen, and what it costs."""
        ways = {
            f"{self.samples} samples of the outputs": self.samples,
            f"columns of {len(self.columns)} groups": len(self.columns),
            f"unit vectors at the layers of {len(self.units)} groups": len(self.units),
            f"{self.draws} draws at the layers of {len(self.drawn)} groups": len(self.drawn),
            f"{self.draws} draws at the operations above {len(self.above)} groups": len(self.above),
            f"{self.probes} probes of {len(self.probed)} groups": len(self.probed),
        }
        kind = "sampled" if self.samples or self.drawn or self.above or self.probed else "exact"
        return f"{', '.join([kind, *(text for text, count in ways.items() if count)])}; {self.gradients:.0f} gradients"

    @property
    def without_gauss_newton(self) -> frozenset[str]:
        """Those that do not take the Gauss-Newton diagonal."""
        return self.columns if self.of_residual else self.columns | self.probed

    @property
    def with_gauss_newton(self) -> frozenset[str]:
        """Those that take the Gauss-Newton diagonal, and something beside it."""
        of_layers = self.units.keys() | self.drawn.keys() | self.above.keys()
        return frozenset(of_layers | self.probed) - self.without_gauss_newton

    def only(self, names: frozenset[str]) -> Plan:
        """Return the same plan for fewer groups."""
        units, drawn = ({n: u for n, u in layers.items() if n in names} for layers in (self.units, self.drawn))
        above = {name: count for name, count in self.above.items() if name in names}
        columns, probed = self.columns & names, self.probed & names
        return self._replace(columns=columns, units=units, drawn=drawn, probed=probed, above=above)


def plan(
    oracle: CurvatureOracle,
    names: frozenset[str],
    known: Mapping[str, LayerUnits],
    draws: int,
    most_columns: float,
    operations: Mapping[str, int],
) -> Plan:
    """Plan the diagonal of the named groups, with so many draws at a layer.

    Parameters
    ----------
    oracle
        With the sizes of its groups.
    names
        All groups that are not exact, so that a group gets the same whichever others are asked for.
    known
        The output units of all layers.
    draws
        How many draws there are at a layer.
    most_columns
        What the columns of groups outside of layers may cost together.
    operations
        How many operations are above the groups that are drawn there if that is worth it, as :func:`operations_above` tells.
    """
    sizes = {group.name: group.size for group in oracle.groups if group.name in names}
    tiny = {name for name in names & known.keys() if cost_of_columns(sizes[name]) <= GRADIENTS_PER_DRAW * draws}
    columns = frozenset(tiny | _affordable(sizes, names - known.keys(), most_columns))
    layers = {name: units for name, units in known.items() if name in names - columns}
    units = {name: of_layer for name, of_layer in layers.items() if of_layer.outputs <= draws}
    drawn = {name: of_layer for name, of_layer in layers.items() if name not in units}
    above = _worthwhile(oracle, {name: count for name, count in operations.items() if name in drawn})
    drawn = {name: of_layer for name, of_layer in drawn.items() if name not in above}
    return Plan(columns, units, drawn, above, frozenset(names - columns - layers.keys()), draws)


def or_all_columns(oracle: CurvatureOracle, found: Plan, terms: float) -> Plan:
    """Return the plan, or all columns where these cost no more."""
    columns = all_columns(found.columns | found.with_gauss_newton | found.probed)
    return columns if cost(oracle, columns) <= cost(oracle, found, terms) else found


def all_columns(names: frozenset[str]) -> Plan:
    """Plan the columns of all these groups."""
    return Plan(names, {}, {}, {}, frozenset())


def cost(oracle: CurvatureOracle, found: Plan, terms: float = 0.0) -> float:
    """Return what a plan costs, with ``terms`` for the Gauss-Newton diagonal if it takes that; a bias is drawn with its weight."""
    units = sum(found.units[name].outputs for name in _first_of_layers(oracle, found.units))
    drawn = len(_first_of_layers(oracle, found.drawn))
    columns = cost_of_columns(sum(group.size for group in oracle.groups if group.name in found.columns))
    beside = terms if found.with_gauss_newton else 0
    per_probe = gradients_per_probe(oracle) if found.of_residual else GRADIENTS_PER_PRODUCT
    probed = per_probe * found.probes if found.probed else 0.0
    per_draw = GRADIENTS_PER_DRAW * drawn + _cost_at_operations(found.above)
    return beside + columns + probed + GRADIENTS_PER_DRAW * units + found.draws * per_draw


def cost_of_columns(entries: int) -> float:
    """Return what the columns of so many entries cost."""
    return GRADIENTS_PER_PRODUCT * entries


def gradients_per_probe(oracle: CurvatureOracle) -> float:
    """Return what a probe of the residual part costs: two products where the oracle does not multiply with it."""
    multiplies = capability(oracle, ResidualProductOracle) is not None
    return GRADIENTS_PER_RESIDUAL_PRODUCT if multiplies else GRADIENTS_PER_BOTH_PRODUCTS


def residual_probes(probes: int) -> int:
    """Return how many probes of the residual part there are: each takes two products where the oracle does not multiply with it."""
    return max(probes // 2, LEAST_PROBES)


def number_of_draws(oracle: CurvatureOracle, names: Collection[str], probes: int, operations: Mapping[str, int]) -> int:
    """Return how many draws at all layers with these groups cost what the probes would: the same number whichever groups are asked for."""
    above = _worthwhile(oracle, operations)
    weights = sum(group.is_weight for group in oracle.groups if group.name in set(names) - above.keys())
    per_draw = GRADIENTS_PER_DRAW * max(weights, 0 if above else 1) + _cost_at_operations(above)
    return max(LEAST_DRAWS, int(GRADIENTS_PER_PRODUCT * probes / per_draw))


def operations_above(oracle: CurvatureOracle, layers: Mapping[str, LayerUnits]) -> Mapping[str, int]:
    """Return how many operations are above the convolutions, and above what has positions beside them; nothing where the oracle does not know them, or matrices have positions.

    Cost: a forward pass, if there are convolutions.
    """
    roles = {group.name: group.role for group in oracle.groups}
    placed = {name for name, units in layers.items() if units.outputs > len(units.scale)}
    able = capability(oracle, NodeCurvatureOracle)
    kinds = {roles[name] for name in placed}
    if able is None or "convolution" not in kinds or "matrix" in kinds:
        return {}
    return {name: count for name, count in able.node_counts(oracle.parameters).items() if name in placed}


def _worthwhile(oracle: CurvatureOracle, operations: Mapping[str, int]) -> Mapping[str, int]:
    """Return the operations if draws there cost little enough beside draws at the layers below, and none if not."""
    at_layers = GRADIENTS_PER_DRAW * len(_first_of_layers(oracle, operations))
    return operations if _cost_at_operations(operations) <= _WORTH * at_layers else {}


def _cost_at_operations(operations: Mapping[str, int]) -> float:
    """Return what a draw at operations costs, with a pair of backward passes from each to all layers below."""
    return GRADIENTS_PER_OPERATION * max(operations.values(), default=0)


def _first_of_layers(oracle: CurvatureOracle, names: Collection[str]) -> list[str]:
    """Return one group of each layer: a bias is drawn with its weight."""
    owners = {group.name: group.owner for group in oracle.groups}
    return [name for name in names if owners[name] not in names]


def _affordable(sizes: Mapping[str, int], names: Collection[str], most: float) -> set[str]:
    """Return the smallest of these groups, as long as all their columns together cost no more than this."""
    found: set[str] = set()
    for name in sorted(names, key=lambda name: (sizes[name], name)):
        if cost_of_columns(sum(sizes[other] for other in found) + sizes[name]) > most:
            break
        found.add(name)
    return found
