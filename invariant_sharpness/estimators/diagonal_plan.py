"""How the diagonal of the Hessian is obtained, at the cost of some products or within a budget of gradients: decided before it is computed.

Within a budget everything is exact if an exact way fits into it, and the cheapest one is taken. Otherwise the Gauss-Newton diagonal is exact if that
leaves half of the budget, and sampled with the other half if not. What is left goes to draws, the same number at every layer; a layer with no
more outputs than that gets unit vectors and is exact, so that the expensive layers alone are sampled. Convolutions are drawn at the operations
above them, all at once, where the oracle knows these and they are few.

Where the Gauss-Newton diagonal of groups outside of layers is made one example at a time and takes more than its half, the Hessian itself is probed in them,
within a budget and for the cost of some products alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from invariant_sharpness.errors import ArgumentError
from invariant_sharpness.estimators.affine_groups import (
    has_gauss_newton_diagonal,
    most_exact_outputs,
    samples_outputs,
    squared_one_by_one,
)
from invariant_sharpness.estimators.affine_test import exact_groups
from invariant_sharpness.estimators.parts_of_draws import most_parts
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT
from invariant_sharpness.estimators.residual_plan import (
    GRADIENTS_PER_COLUMNS,
    GRADIENTS_PER_DRAW,
    LEAST_DRAWS,
    Plan,
    all_columns,
    cost,
    number_of_draws,
    operations_above,
    or_all_columns,
    plan,
    residual_probes,
)
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    LayerUnits,
    ResidualDiagonalOracle,
    capability,
    require,
)
from invariant_sharpness.runtime.progress import reporter

GRADIENTS_PER_PASS, GRADIENTS_PER_PASS_OF_POSITIONS = 1.0, 1.5
"""What a backward pass with squares costs at most, one of all outputs or one of a sample of them, as measured: 0.3 to 0.9 on vectors and images, 1.0 to 1.5 on sequences."""

EXAMPLES_OF_OVERHEAD = 50
"""By itself an example costs at most as much as so many more in a batch, as ``docs/experiments/one_by_one.py`` measures: a pass over 200 takes 9 to 40 gradients, one over 50 takes 6 to 16."""

GRADIENTS_BEFOREHAND = 4.0
"""What the affine test, its confirmation and the scales of the output units cost."""


def plan_of_probes(oracle: CurvatureOracle, names: frozenset[str], defects: Mapping[str, float], probes: int) -> Plan:
    """Plan the diagonal of the named groups, which do not pass the affine test, at the cost of so many Hessian-vector products.

    Where the oracle cannot tell its layers apart, or has no Gauss-Newton diagonal, the products probe the Hessian itself.
    """
    able = capability(oracle, ResidualDiagonalOracle)
    if able is None or not has_gauss_newton_diagonal(oracle):
        return _probed(names, probes)._replace(gradients=GRADIENTS_PER_PRODUCT * probes)
    known = able.layer_units(oracle.parameters)
    curved = frozenset(group.name for group in oracle.groups) - exact_groups(oracle, defects) | names
    ways = _ways(oracle, curved, known)
    samples = 0 if _outputs(oracle) <= most_exact_outputs(oracle, probes) else probes
    draws = number_of_draws(oracle, known.keys() & curved, probes, ways.operations)
    found = ways.with_probes(samples, draws, probes)
    terms = samples or _outputs(oracle)
    chosen = or_all_columns(oracle, found, terms)
    return chosen._replace(gradients=cost(oracle, chosen, terms))


LARGE = 10**7
"""Networks with more parameters get a plan within a budget by default, and with it fewer samples of the outputs and probes: the errors of sums over so many entries are small."""


def is_large(oracle: CurvatureOracle) -> bool:
    """Whether a network has so many parameters that everything has to fit into the cost of the products by default."""
    return sum(group.size for group in oracle.groups) > LARGE


def plan_within(oracle: CurvatureOracle, curved: frozenset[str], budget: float, *, at_least: bool = False) -> Plan:
    """Plan the diagonal of all groups within so many gradients.

    Parameters
    ----------
    oracle
        With the sizes of its groups, its layers and its outputs.
    curved
        The groups that do not pass the affine test.
    budget
        What everything may cost, with the affine test and the Gauss-Newton diagonal.
    at_least
        Whether a budget that is too small buys the least that there is at every layer, and what half of it buys of samples.

    Raises
    ------
    ArgumentError
        If nothing fits into the budget; says what the least costs.
    """
    knows = capability(oracle, GaussNewtonDiagonalOracle) is not None
    able = capability(oracle, ResidualDiagonalOracle) if knows and curved else None
    layers = None if able is None else able.layer_units(oracle.parameters)
    ways = _ways(oracle, curved, layers)
    exact = sorted(ways.exact(), key=ways.cost)
    sampled = ways.sampled(budget)
    fitting = [way for way in [*exact[:1], sampled, ways.least()] if ways.cost(way) <= budget]
    fitting = fitting or [sampled] * at_least
    if not fitting:
        least = min(map(ways.cost, [*exact, ways.least()]))
        msg = f"budget={budget:g}, but the diagonal of this network takes {least:.0f} gradients at least"
        raise ArgumentError(msg)
    return fitting[0]._replace(gradients=ways.cost(fitting[0]))


def announced(found: Plan) -> Plan:
    """Tell those who watch the progress what is going to be computed, and return it."""
    reporter(f"plan: {found.words}", 1)(1)
    return found


@dataclass(frozen=True, slots=True)
class _Ways:
    """The ways to a diagonal.

    Parameters
    ----------
    oracle
        The oracle.
    curved
        The groups that do not pass the affine test.
    affine
        All others.
    layers
        The output units of all layers; None if what is curved has to be probed as a whole.
    operations
        How many operations are above the groups that may be drawn there.
    one_by_one
        The number of examples in a batch, for the groups whose squares take one at a time.
    """

    oracle: CurvatureOracle
    curved: frozenset[str]
    affine: frozenset[str]
    layers: Mapping[str, LayerUnits] | None
    operations: Mapping[str, int]
    one_by_one: Mapping[str, int]

    def cost(self, way: Plan) -> float:
        """Return what it costs, with all that comes before it."""
        beforehand = GRADIENTS_BEFOREHAND if self.affine or self.layers is not None else 0.0
        return beforehand + self._of_gauss_newton(way) + cost(self.oracle, way)

    def _of_gauss_newton(self, way: Plan) -> float:
        """Return what the Gauss-Newton diagonal costs: groups that pass the affine test, and those that do not, have samples of their own."""
        both = self.affine, way.with_gauss_newton
        return sum(self._of_squares(names, way.samples) for names in (both if way.samples else [both[0] | both[1]]))

    def _of_squares(self, names: frozenset[str], samples: int) -> float:
        """Return what exact or sampled squares cost: of one example at a time a forward pass, too, for each part of the samples."""
        if not names:
            return 0.0
        terms, forward = (samples, min(samples, most_parts(self.oracle))) if samples else (_outputs(self.oracle), 1)
        return self._per_pass * terms + self._alone(names) * (terms + forward)

    def _alone(self, names: frozenset[str]) -> float:
        """Return what a pass over the examples costs, one at a time, if one of the groups takes it; an example of a large network has no overhead."""
        examples = max((count for name, count in self.one_by_one.items() if name in names), default=0)
        overhead = 0 if is_large(self.oracle) else EXAMPLES_OF_OVERHEAD
        return examples * (overhead + 1) / (overhead + examples) if examples else 0.0

    @property
    def _per_pass(self) -> float:
        layers = (self.layers or {}).values()
        positions = any(units.outputs > len(units.scale) for units in layers)
        return GRADIENTS_PER_PASS_OF_POSITIONS if positions else GRADIENTS_PER_PASS

    def exact(self) -> list[Plan]:
        """Return all columns, and unit vectors at all layers."""
        found = [all_columns(self.curved)]
        if self.layers is not None:
            most = max((units.outputs for units in self.layers.values()), default=0)
            found.append(self._planned(self.layers, most, inf))
        return found

    def least(self) -> Plan:
        """Return what costs the least."""
        return self._drawn(self._samples(0.0), LEAST_DRAWS, 0.0)

    def sampled(self, budget: float) -> Plan:
        """Return the way with the most draws within the budget, or with the least of them."""
        # the first columns outside of layers cost as much as all probes: what is too little for them is enough for more draws
        ways = [self._most_drawn(budget, columns) for columns in (inf, 0.0)]
        return max(ways, key=lambda way: (len(way.columns), way.draws))

    def _most_drawn(self, budget: float, columns: float) -> Plan:
        """Return the way with the most draws within the budget whose columns outside of layers cost no more than this."""
        samples, least, most = self._samples(budget), LEAST_DRAWS, max(LEAST_DRAWS, int(budget / GRADIENTS_PER_DRAW))
        while least < most:
            middle = (least + most + 1) // 2
            fits = self.cost(self._drawn(samples, middle, budget, columns)) <= budget
            least, most = (middle, most) if fits else (least, middle - 1)
        return self._drawn(samples, least, budget, columns)

    def _samples(self, budget: float) -> int:
        """Return how many samples of the outputs there are; none where the exact Gauss-Newton diagonal leaves half of the budget, or costs less."""
        calls = bool(self.affine) + (self.layers is not None)
        if not calls or not samples_outputs(self.oracle):
            return 0
        slow = self.affine | self.curved if is_large(self.oracle) else self.affine
        per_sample = self._per_pass + 2 * self._alone(slow)
        samples = max(LEAST_DRAWS, int(self._left(budget) / (per_sample * calls)))
        exact = self._per_pass * _outputs(self.oracle) + self._alone(self.affine) * (_outputs(self.oracle) + 1)
        return 0 if exact <= self._left(budget) or _outputs(self.oracle) <= calls * samples else samples

    def _left(self, budget: float) -> float:
        """Return what the Gauss-Newton diagonal may cost."""
        return (budget - GRADIENTS_BEFOREHAND) / (2 if self.curved else 1)

    def _drawn(self, samples: int, draws: int, budget: float, columns: float = inf) -> Plan:
        """Plan so many draws at every layer, and as many probes elsewhere: of the residual part, unless the Gauss-Newton diagonal costs too much there."""
        if self.layers is None:
            return _probed(self.curved, draws)._replace(samples=samples)
        return self._mixed(self.layers, samples, draws, (draws, draws), self._left(budget), columns)

    def with_probes(self, samples: int, draws: int, products: int) -> Plan:
        """Plan so many draws at every layer, and probes elsewhere that cost what the products do, or half of it beside a Gauss-Newton diagonal that costs no more."""
        terms = self._per_pass * (samples or _outputs(self.oracle))
        half = terms + GRADIENTS_PER_PRODUCT * products / 2
        return self._mixed(self.layers or {}, samples, draws, (residual_probes(products), products), half)

    def _mixed(
        self,
        layers: Mapping[str, LayerUnits],
        samples: int,
        draws: int,
        probes: tuple[int, int],
        most: float,
        columns: float = inf,
    ) -> Plan:
        """Plan draws at layers, and so many probes of the residual part elsewhere, or the second number of the Hessian if the Gauss-Newton diagonal costs more than ``most``."""
        of_residual, of_hessian = probes
        found = self._planned(layers, draws, min(columns, GRADIENTS_PER_COLUMNS * of_residual))
        found = found._replace(probes=of_residual, samples=samples)
        if not found.probed & self.one_by_one.keys() or self._of_gauss_newton(found) <= most:
            return found
        whole = self._planned(layers, draws, min(columns, GRADIENTS_PER_PRODUCT * of_hessian))
        return whole._replace(probes=of_hessian, samples=samples, of_residual=False)

    def _planned(self, layers: Mapping[str, LayerUnits], draws: int, columns: float) -> Plan:
        return plan(self.oracle, self.curved, layers, draws, columns, self.operations)


def _ways(oracle: CurvatureOracle, curved: frozenset[str], layers: Mapping[str, LayerUnits] | None) -> _Ways:
    operations = operations_above(oracle, {name: units for name, units in (layers or {}).items() if name in curved})
    affine = frozenset(group.name for group in oracle.groups) - curved
    return _Ways(oracle, curved, affine, layers, operations, squared_one_by_one(oracle))


def _probed(names: frozenset[str], probes: int) -> Plan:
    return Plan(frozenset(), {}, {}, {}, names, probes=probes, of_residual=False)


def _outputs(oracle: CurvatureOracle) -> int:
    """Return how many backward passes the exact Gauss-Newton diagonal takes."""
    return require(oracle, GaussNewtonDiagonalOracle, metric="hessian_diagonal").outputs_per_example
