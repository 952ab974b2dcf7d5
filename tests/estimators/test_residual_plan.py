"""What groups get where the outputs are not affine: by cost, and the same whichever other groups are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from invariant_sharpness.estimators.residual_plan import (
    GRADIENTS_PER_PROBE,
    Plan,
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
    found = plan(oracle, frozenset(sizes), units, draws, GRADIENTS_PER_PROBE * counted)
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
    assert found == Plan(frozenset(sizes), {}, {}, frozenset()), found


def test_plan_of_some_groups_is_that_of_all() -> None:
    found = planned({"token": 10, "large": 20_000, "weight": 5000}, {"weight": 300})
    assert found.only(frozenset({"weight", "token"})) == found._replace(probed=frozenset()), found
