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

_GRADIENTS_PER_PROBE = 7.0
"""What a product with the residual part costs: one with the Hessian alone, and one with the Gauss-Newton matrix."""

_LEAST_DRAWS, _LEAST_PROBES = 4, 4


class Plan(NamedTuple):
    """What the named groups get.

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
    """

    columns: frozenset[str]
    units: Mapping[str, LayerUnits]
    drawn: Mapping[str, LayerUnits]
    probed: frozenset[str]

    def only(self, names: frozenset[str]) -> Plan:
        """Return the same plan for fewer groups."""
        units, drawn = ({n: u for n, u in layers.items() if n in names} for layers in (self.units, self.drawn))
        return Plan(self.columns & names, units, drawn, self.probed & names)


def plan(
    oracle: CurvatureOracle,
    names: frozenset[str],
    known: Mapping[str, LayerUnits],
    draws: int,
    probes: int,
    terms: int,
) -> Plan:
    """Plan the diagonal of the named groups.

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
    probes
        How many Hessian-vector products may be spent.
    terms
        How many backward passes the Gauss-Newton diagonal takes.
    """
    sizes = {group.name: group.size for group in oracle.groups if group.name in names}
    tiny = {name for name in names & known.keys() if _columns(sizes[name]) <= GRADIENTS_PER_DRAW * draws}
    columns = frozenset(tiny | _affordable(sizes, names - known.keys(), _probing(probes)))
    layers = {name: units for name, units in known.items() if name in names - columns}
    units = {name: of_layer for name, of_layer in layers.items() if of_layer.outputs <= draws}
    drawn = {name: of_layer for name, of_layer in layers.items() if name not in units}
    found = Plan(columns, units, drawn, names - columns - layers.keys())
    everything = _columns(sum(sizes.values()))
    return found if everything > _cost(oracle, found, draws, probes, terms) else Plan(names, {}, {}, frozenset())


def _affordable(sizes: Mapping[str, int], names: Collection[str], most: float) -> set[str]:
    """Return the smallest of these groups, as long as all their columns together cost no more than this."""
    found: set[str] = set()
    for name in sorted(names, key=lambda name: (sizes[name], name)):
        if _columns(sum(sizes[other] for other in found) + sizes[name]) > most:
            break
        found.add(name)
    return found


def _cost(oracle: CurvatureOracle, found: Plan, draws: int, probes: int, terms: int) -> float:
    """What a plan costs; a bias is drawn with its weight."""
    owners = {group.name: group.owner for group in oracle.groups}
    units = sum(of_layer.outputs for name, of_layer in found.units.items() if owners[name] not in found.units)
    drawn = draws * sum(owners[name] not in found.drawn for name in found.drawn)
    columns = _columns(sum(group.size for group in oracle.groups if group.name in found.columns))
    beside = terms if found.units or found.drawn or found.probed else 0
    return beside + columns + GRADIENTS_PER_DRAW * (units + drawn) + (_probing(probes) if found.probed else 0.0)


def _columns(entries: int) -> float:
    return GRADIENTS_PER_PRODUCT * entries


def _probing(probes: int) -> float:
    return _GRADIENTS_PER_PROBE * residual_probes(probes)


def residual_probes(probes: int) -> int:
    """Return how many probes of the residual part there are: each takes two products."""
    return max(probes // 2, _LEAST_PROBES)


def number_of_draws(oracle: CurvatureOracle, names: Collection[str], probes: int) -> int:
    """Return how many draws at all layers with these groups cost what the probes would: the same number whichever groups are asked for."""
    weights = sum(group.is_weight for group in oracle.groups if group.name in names)
    return max(_LEAST_DRAWS, int(GRADIENTS_PER_PRODUCT * probes / (GRADIENTS_PER_DRAW * max(weights, 1))))
