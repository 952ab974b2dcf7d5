"""What groups get where the outputs are not affine: by cost, and the same whichever other groups are asked for."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from invariant_sharpness.estimators import residual_plan
from invariant_sharpness.estimators.residual_plan import (
    GRADIENTS_PER_COLUMNS,
    Plan,
    cost,
    number_of_draws,
    operations_above,
    or_all_columns,
    plan,
    residual_probes,
)
from invariant_sharpness.protocol import LayerUnits, ParameterGroup


class Sizes:
    """An oracle of which only the sizes are known."""

    def __init__(self, **sizes: int) -> None:
        self.groups = tuple(ParameterGroup(name, (size,)) for name, size in sizes.items())


def planned(sizes: dict[str, int], layers: dict[str, int], draws: int = 20, probes: int = 64) -> Plan:
    oracle: Any = Sizes(**sizes)
    units = {name: LayerUnits(np.ones(outputs), outputs) for name, outputs in layers.items()}
    counted = residual_probes(probes)
    found = plan(oracle, frozenset(sizes), units, draws, GRADIENTS_PER_COLUMNS * counted, {})
    return or_all_columns(oracle, found._replace(probes=counted), 10)


def test_layers_get_unit_vectors_where_outputs_are_few_and_draws_elsewhere() -> None:
    found = planned({"narrow": 500, "wide": 5000}, {"narrow": 20, "wide": 21})
    assert (set(found.units), set(found.drawn)) == ({"narrow"}, {"wide"}), found


def test_few_entries_outside_of_layers_get_columns() -> None:
    found = planned({"token": 96, "large": 20_000, "weight": 5000}, {"weight": 300})
    assert (found.columns, found.probed, set(found.drawn)) == ({"token"}, {"large"}, {"weight"}), found


def test_columns_outside_of_layers_cost_no_more_than_probes() -> None:
    found = planned({"one": 60, "two": 61, "large": 20_000}, {})
    assert (found.columns, found.probed) == ({"one"}, {"two", "large"}), found


def test_factor_of_a_layer_gets_its_column() -> None:
    found = planned({"temperature": 1, "weight": 5000}, {"temperature": 300, "weight": 300})
    assert (found.columns, set(found.drawn)) == ({"temperature"}, {"weight"}), found


def test_small_network_gets_all_columns() -> None:
    sizes = {"recurrent": 96, "weight": 10}
    found = planned(sizes, {"weight": 300})
    assert found == Plan(frozenset(sizes), {}, {}, {}, frozenset()), found


def test_plan_of_some_groups_is_that_of_all() -> None:
    found = planned({"token": 10, "large": 20_000, "weight": 5000}, {"weight": 300})
    assert found.only(frozenset({"weight", "token"})) == found._replace(probed=frozenset()), found


class Convolutions:
    """An oracle with a pair of groups for each of some layers, and so many operations above these."""

    def __init__(self, role: Any = "convolution", **operations: int) -> None:
        weights = [ParameterGroup(name, (600,), role) for name in operations]
        biases = [ParameterGroup(f"{name} bias", (60,), "bias", owner=name) for name in operations]
        self.groups = *weights, *biases
        self.operations = operations | {f"{name} bias": count for name, count in operations.items()}
        self.units = {group.name: LayerUnits(np.ones(60), 6000) for group in self.groups}


def planned_convolutions(draws: int = 20, **operations: int) -> tuple[Any, Plan]:
    oracle: Any = Convolutions(**operations)
    found = plan(oracle, frozenset(oracle.operations), oracle.units, draws, 0.0, oracle.operations)
    return oracle, found


def test_convolutions_below_few_operations_are_drawn_there() -> None:
    oracle, found = planned_convolutions(first=3, second=2)
    assert (found.above, found.drawn) == (oracle.operations, {}), found
    assert np.isclose(cost(oracle, found, terms=10), 10 + 20 * 3 * 0.9), "a draw at three operations serves all layers"
    assert "20 draws at the operations above 4 groups" in found.words, found.words


def test_convolutions_below_many_operations_are_drawn_at_their_layers() -> None:
    oracle, found = planned_convolutions(first=12, second=11)
    assert (found.above, set(found.drawn)) == ({}, set(oracle.operations)), found
    assert np.isclose(cost(oracle, found), 20 * 2 * 0.7), "a bias is drawn with its weight"


@pytest.mark.parametrize(("count", "expected"), [(2, 2 * 64 / (2 * 0.9)), (12, 2 * 64 / (2 * 0.7))])
def test_draws_cost_what_the_probes_would(count: int, expected: float) -> None:
    oracle: Any = Convolutions(first=count, second=1)
    assert number_of_draws(oracle, oracle.operations, 64, oracle.operations) == int(expected)


def test_operations_are_told_where_convolutions_alone_have_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual_plan, "capability", lambda oracle, _: oracle)
    monkeypatch.setattr(Convolutions, "parameters", None, raising=False)
    monkeypatch.setattr(Convolutions, "node_counts", lambda self, _: self.operations, raising=False)
    convolutions, matrices = Convolutions(first=3), Convolutions("matrix", first=3)
    found: Any = [operations_above(cast(Any, oracle), oracle.units) for oracle in (convolutions, matrices)]
    assert found == [convolutions.operations, {}], found
