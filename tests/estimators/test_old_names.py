"""The names of arguments in version 0.1 are accepted with a warning, and mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import invariant_sharpness as ish
from zoo.estimator_problems import QuadraticOracle, with_spectrum
from zoo.interrupted_loops import base

CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "hutchinson_trace": (ish.hutchinson_trace, {"products": 8}, {"num_matvecs": 8}),
    "hutch_plus_plus_trace": (ish.hutch_plus_plus_trace, {"products": 12}, {"num_matvecs": 12}),
    "xtrace": (ish.xtrace, {"products": 12}, {"num_matvecs": 12}),
    "xdiag": (lambda o, **k: ish.xdiag(o, **k).standard_error(ones(o)), {"products": 12}, {"num_matvecs": 12}),
    "hutchinson_trace_within": (
        ish.hutchinson_trace_within,
        {"pilot": 5, "most": 30},
        {"pilot_probes": 5, "num_matvecs": 30},
    ),
    "eigenpairs": (lambda o, **k: ish.eigenpairs(o, **k).to_dict(), {"products": 9}, {"num_matvecs": 9}),
    "hessian_lipschitz_of_operator": (ish.hessian_lipschitz_of_operator, {"steps": 3}, {"max_iterations": 3}),
}


def ones(oracle: ish.CurvatureOracle) -> Any:
    return oracle.to_numpy(oracle.parameters.map(oracle.xp.ones_like))


@pytest.mark.parametrize("name", CALLS)
def test_old_names_mean_the_same(name: str) -> None:
    estimator, old, new = CALLS[name]
    with pytest.warns(DeprecationWarning, match=f"{next(iter(old))}=|{list(old)[-1]}="):
        found = estimator(base(), **old)
    expected = estimator(base(), **new)
    assert found == expected, f"{found} instead of {expected}"


def test_known_eigenpairs_and_diagonals_have_old_names() -> None:
    oracle = QuadraticOracle(with_spectrum("flat"))
    pairs, diagonal = ish.eigenpairs(oracle), ish.HessianDiagonal({})
    with pytest.warns(DeprecationWarning, match="eigenpairs="):
        found: Any = ish.schatten_norm(oracle, 1, steps=4, known=pairs)
    assert found == ish.schatten_norm(oracle, 1, steps=4, eigenpairs=pairs)
    with pytest.warns(DeprecationWarning, match="diagonal="), pytest.warns(DeprecationWarning, match="parameters="):
        ish.hessian_diagonal(oracle, names=frozenset({"vector"}), known=diagonal)
