"""Correct oracles with one mistake each, and what the checks say of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from invariant_sharpness import ParameterVector
from invariant_sharpness.testing import check_oracle
from invariant_sharpness_numpy import NetworkOracle
from zoo.numpy_problem import problem


class Mutant:
    """A correct oracle but for what is given: methods by name, each a function of the correct oracle and the arguments."""

    def __init__(self, base: Any, **changes: Callable[..., Any]) -> None:
        self._base = base
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        if name in self._changes:
            return lambda *arguments, **options: self._changes[name](self._base, *arguments, **options)
        return getattr(self._base, name)


def base() -> NetworkOracle:
    return problem("cross_entropy", biases=True).oracle


def failures(oracle: Any, seed: int = 0) -> dict[str, str]:
    return {r.check: r.message for r in check_oracle(oracle, seed=seed, on_fail="return") if r.status == "failed"}


def assert_no_failure(oracle: Any, seed: int) -> None:
    found = failures(oracle, seed)
    assert not found, f"a correct oracle fails with seed {seed}: {found}"


def with_part(vector: ParameterVector, name: str, change: Callable[[Any], Any]) -> ParameterVector:
    return ParameterVector(vector.xp, {k: change(a) if k == name else a for k, a in vector.arrays.items()})
