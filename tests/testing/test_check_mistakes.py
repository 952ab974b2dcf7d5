"""Each kind of mistake is found by the check that is meant for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from invariant_sharpness import ParameterVector
from invariant_sharpness_numpy import FunctionOracle
from zoo.mistakes import MUTANTS
from zoo.mutants import Mutant, assert_no_failure, base, failures, with_part
from zoo.seeds import seeds


@seeds(2)
@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found_by_its_check(name: str, seed: int) -> None:
    check, mutant = MUTANTS[name]
    found = failures(mutant(), seed)
    assert check in found, f"{name}: {check} did not fail; those that failed: {found}"


def unrestricted_diagonal(oracle: Any, p: ParameterVector, _names: frozenset[str]) -> ParameterVector:
    return oracle.gauss_newton_diagonal(p, frozenset(group.name for group in oracle.groups))


def test_diagonal_that_ignores_the_names_is_found() -> None:
    def partly_bent(oracle: Any, p: ParameterVector, u: ParameterVector, seed: int) -> Any:
        first, second = oracle.output_curvature(p, u, seed)
        return first, with_part(second, oracle.groups[0].name, np.ones_like)

    found = failures(Mutant(base(), gauss_newton_diagonal=unrestricted_diagonal, output_curvature=partly_bent))
    assert "is not zero in" in found.get("check_gauss_newton_diagonal", ""), f"only {found}"


def test_false_certificate_is_found() -> None:
    """A tanh layer is not affine: with an output curvature of zero, its Gauss-Newton diagonal passes for exact."""
    oracle = tanh_oracle(certified=True)
    assert "check_gauss_newton_diagonal" in failures(oracle), f"only {failures(oracle)}"
    assert_no_failure(tanh_oracle(certified=False), seed=0)


def tanh_oracle(*, certified: bool) -> Any:
    """The output ``tanh(w . x)`` under a squared error, with a Gauss-Newton diagonal and, if asked, a false certificate."""
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.linspace(-2, 2, 20)

    def parts(p: Any) -> tuple[Any, Any, Any]:
        z = np.tanh(x @ p["w"])
        return z - y, 1 - z**2, -2 * z * (1 - z**2)

    def gradient(p: Any) -> Any:
        r, d, _ = parts(p)
        return {"w": (r * d) @ x / len(x)}

    def product(p: Any, v: Any) -> Any:
        r, d, dd = parts(p)
        return {"w": ((d**2 + r * dd) * (x @ v["w"])) @ x / len(x)}

    def loss(p: Any) -> float:
        return float(np.mean(parts(p)[0] ** 2) / 2)

    def curvature(o: Any, p: Any, u: Any, _seed: int) -> Any:
        d, dd = parts(p)[1:]
        first, second = {"w": d @ x}, {"w": (dd * (x @ u["w"])) @ x}
        return o.from_numpy(first), o.from_numpy(second) * (0.0 if certified else 1.0)

    plain = FunctionOracle({"w": np.array([0.5, -1, 0.3])}, loss, gradient, product)
    oracle = Mutant(
        plain,
        output_curvature=curvature,
        gauss_newton_diagonal=lambda o, p, _: o.from_numpy({"w": (parts(p)[1] ** 2) @ x**2 / len(x)}),
    )
    oracle.outputs_per_example = 1
    return oracle
