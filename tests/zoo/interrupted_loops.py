"""Loops that make many products, and oracles that somebody interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness.estimators.column_diagonal import column_groups
from invariant_sharpness.estimators.warm_starts import WarmStart
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

LOOPS: dict[str, Callable[[Any], Any]] = {
    "hessian_trace": lambda oracle: ish.hessian_trace(oracle, probes=9),
    "hessian_frobenius_norm": lambda oracle: ish.hessian_frobenius_norm(oracle, probes=9),
    "hessian_spectral_norm": ish.hessian_spectral_norm,
    "normalized_sharpness": lambda oracle: ish.normalized_sharpness(oracle, probes=24),
    "hutchinson_trace": lambda oracle: ish.hutchinson_trace(oracle, num_matvecs=9),
    "hutchinson_trace_within": lambda oracle: ish.hutchinson_trace_within(
        oracle, relative_error=0.3, pilot_probes=4, num_matvecs=40
    ),
    "hutch_plus_plus_trace": lambda oracle: ish.hutch_plus_plus_trace(oracle, num_matvecs=12),
    "xtrace": lambda oracle: ish.xtrace(oracle, num_matvecs=12),
    "xdiag": lambda oracle: numbers_of_diagonal(ish.xdiag(oracle, num_matvecs=12)),
    "columns of the diagonal": lambda oracle: numbers_of_columns(oracle),
    "eigenpairs": lambda oracle: numbers_of_pairs(oracle, ish.eigenpairs(oracle, largest=2, smallest=1)),
    "eigenpairs with restarts": lambda oracle: with_restarts(oracle),
    "eigenpairs near a vector": lambda oracle: near_a_vector(oracle),
    "spectral_density": lambda oracle: ish.spectral_density(oracle, probes=3, steps=4).to_dict(),
    "spectral_density, probe by probe": lambda oracle: probe_by_probe(oracle),
}


def numbers_of_diagonal(diagonal: ish.HessianDiagonal) -> dict[str, Any]:
    return {name: (group.values.tolist(), group.parts.tolist()) for name, group in diagonal.groups.items()}


def numbers_of_columns(oracle: Any) -> dict[str, Any]:
    found = column_groups(oracle, frozenset(group.name for group in oracle.groups[:1]))
    return {name: group.values.tolist() for name, group in found.items()}


def numbers_of_pairs(oracle: Any, pairs: ish.Eigenpairs) -> list[Any]:
    vectors = [oracle.to_numpy(pair.vector) for pair in (*pairs.largest, *pairs.smallest)]
    return [pairs.to_dict(), [{name: array.tolist() for name, array in vector.items()} for vector in vectors]]


def with_restarts(oracle: Any) -> list[Any]:
    with ish.memory_limit(VECTOR):
        return numbers_of_pairs(oracle, ish.eigenpairs(oracle, largest=1, smallest=1, num_matvecs=30))


def near_a_vector(oracle: Any) -> list[Any]:
    start = WarmStart(oracle.parameters / oracle.parameters.norm())
    return numbers_of_pairs(oracle, ish.eigenpairs(oracle, largest=1, smallest=0, start=start))


def probe_by_probe(oracle: Any) -> dict[str, Any]:
    with ish.memory_limit(10 * VECTOR):
        return ish.spectral_density(oracle, probes=3, steps=4).to_dict()


TOGETHER = {"eigenpairs": 2, "spectral_density": 3}
"""Products of a step, where it takes more than one."""

IDENTITY = 1
"""Products that tell the oracle of a checkpoint from others."""

VECTOR = 8 * (6 * 4 + 3 * 6)
"""Bytes of a vector of the network."""


class Interruptible:
    """An oracle without exact diagonals, which somebody interrupts at a certain product."""

    def __init__(self, base: Any, at: int | None = None) -> None:
        self._base, self._left, self.products = base, at, 0

    def __getattr__(self, name: str) -> Any:
        if name in ("gauss_newton_diagonal", "hessian_vector_products", "sampled_gauss_newton_diagonal", "subset"):
            raise AttributeError(name)
        return getattr(self._base, name)

    def hessian_vector_product(self, *arguments: Any) -> Any:
        self.products += 1
        if self.products == self._left:
            raise KeyboardInterrupt
        return self._base.hessian_vector_product(*arguments)


class InterruptibleBlocks:
    """An oracle that multiplies blocks, and that somebody interrupts at a certain one."""

    def __init__(self, base: Any, at: int | None = None) -> None:
        self._base, self._left, self.blocks = base, at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def hessian_vector_products(self, *arguments: Any) -> Any:
        self.blocks += 1
        if self.blocks == self._left:
            raise KeyboardInterrupt
        return self._base.hessian_vector_products(*arguments)


def base(shift: float = 0.0, outputs: int = 3, brightness: float = 1.0) -> NetworkOracle:
    random = np.random.default_rng(0)
    network = ReluNetwork((random.normal(size=(6, 4)) + shift, random.normal(size=(outputs, 6))))
    return NetworkOracle(network, brightness * random.normal(size=(9, 4)), random.integers(0, 3, 9))
