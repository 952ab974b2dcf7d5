"""Which groups get columns of the Hessian, unit vectors or draws at layers, and which are probed: by what each way costs, before anything is computed.

All costs are in gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.protocol import CurvatureOracle, LayerUnits

GRADIENTS_PER_DRAW = 0.7
"""What a draw of one layer costs, as measured on encoders of some layers."""

GRADIENTS_PER_PROBE = 6.0
"""What a product with the residual part costs, as measured: one with the Hessian alone, 2.6 to 3.2, and one with the Gauss-Newton matrix, 2.2 to 2.6."""

LEAST_DRAWS, LEAST_PROBES = 4, 4


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
            f"{self.probes} probes of {len(self.probed)} groups": len(self.probed),
        }
        kind = "sampled" if self.samples or self.drawn or self.probed else "exact"
        return f"{', '.join([kind, *(text for text, count in ways.items() if count)])}; {self.gradients:.0f} gradients"

    @property
    def without_gauss_newton(self) -> frozenset[str]:
        """Those that do not take the Gauss-Newton diagonal."""
        return self.columns if self.of_residual else self.columns | self.probed

    @property
    def with_gauss_newton(self) -> frozenset[str]:
        """Those that take the Gauss-Newton diagonal, and something beside it."""
        return frozenset(self.units.keys() | self.drawn.keys() | self.probed) - self.without_gauss_newton

    def only(self, names: frozenset[str]) -> Plan:
        """Return the same plan for fewer groups."""
        units, drawn = ({n: u for n, u in layers.items() if n in names} for layers in (self.units, self.drawn))
        return self._replace(columns=self.columns & names, units=units, drawn=drawn, probed=self.probed & names)


def plan(
    oracle: CurvatureOracle,
    names: frozenset[str],
    known: Mapping[str, LayerUnits],
    draws: int,
    most_columns: float,
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
    """
    sizes = {group.name: group.size for group in oracle.groups if group.name in names}
    tiny = {name for name in names & known.keys() if cost_of_columns(sizes[name]) <= GRADIENTS_PER_DRAW * draws}
    columns = frozenset(tiny | _affordable(sizes, names - known.keys(), most_columns))
    layers = {name: units for name, units in known.items() if name in names - columns}
    units = {name: of_layer for name, of_layer in layers.items() if of_layer.outputs <= draws}
    drawn = {name: of_layer for name, of_layer in layers.items() if name not in units}
    return Plan(columns, units, drawn, frozenset(names - columns - layers.keys()), draws)


def or_all_columns(oracle: CurvatureOracle, found: Plan, terms: float) -> Plan:
    """Return the plan, or all columns where these cost no more."""
    columns = all_columns(frozenset(found.columns | found.units.keys() | found.drawn.keys() | found.probed))
    return columns if cost(oracle, columns) <= cost(oracle, found, terms) else found


def all_columns(names: frozenset[str]) -> Plan:
    """Plan the columns of all these groups."""
    return Plan(names, {}, {}, frozenset())


def cost(oracle: CurvatureOracle, found: Plan, terms: float = 0.0) -> float:
    """Return what a plan costs, with ``terms`` for the Gauss-Newton diagonal if it takes that; a bias is drawn with its weight."""
    owners = {group.name: group.owner for group in oracle.groups}
    units = sum(of_layer.outputs for name, of_layer in found.units.items() if owners[name] not in found.units)
    drawn = found.draws * sum(owners[name] not in found.drawn for name in found.drawn)
    columns = cost_of_columns(sum(group.size for group in oracle.groups if group.name in found.columns))
    beside = terms if found.with_gauss_newton else 0
    per_probe = GRADIENTS_PER_PROBE if found.of_residual else GRADIENTS_PER_PRODUCT
    return beside + columns + GRADIENTS_PER_DRAW * (units + drawn) + (per_probe * found.probes if found.probed else 0.0)


def cost_of_columns(entries: int) -> float:
    """Return what the columns of so many entries cost."""
    return GRADIENTS_PER_PRODUCT * entries


def residual_probes(probes: int) -> int:
    """Return how many probes of the residual part there are: each takes two products."""
    return max(probes // 2, LEAST_PROBES)


def number_of_draws(oracle: CurvatureOracle, names: Collection[str], probes: int) -> int:
    """Return how many draws at all layers with these groups cost what the probes would: the same number whichever groups are asked for."""
    weights = sum(group.is_weight for group in oracle.groups if group.name in names)
    return max(LEAST_DRAWS, int(GRADIENTS_PER_PRODUCT * probes / (GRADIENTS_PER_DRAW * max(weights, 1))))


def _affordable(sizes: Mapping[str, int], names: Collection[str], most: float) -> set[str]:
    """Return the smallest of these groups, as long as all their columns together cost no more than this."""
    found: set[str] = set()
    for name in sorted(names, key=lambda name: (sizes[name], name)):
        if cost_of_columns(sum(sizes[other] for other in found) + sizes[name]) > most:
            break
        found.add(name)
    return found
