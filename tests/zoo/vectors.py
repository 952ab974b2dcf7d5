"""Vectors of parameters as flat arrays, dense matrices by their columns, and errors relative to the largest entry."""

from __future__ import annotations

from typing import Any

import numpy as np

import invariant_sharpness as ish


def flat(vector: ish.ParameterVector) -> Any:
    return np.concatenate([np.ravel(array) for array in vector.arrays.values()])


def vector_of(oracle: Any, values: Any) -> ish.ParameterVector:
    """Undo :func:`flat`."""
    ends = np.cumsum([group.size for group in oracle.groups])[:-1]
    parts = zip(oracle.groups, np.split(values, ends), strict=True)
    return oracle.from_numpy({group.name: part.reshape(group.shape) for group, part in parts})


def direction(oracle: Any, seed: int = 8) -> ish.ParameterVector:
    random = np.random.default_rng(seed)
    return oracle.from_numpy({group.name: random.normal(size=group.shape) for group in oracle.groups})


def hessian_by_columns(oracle: Any, point: ish.ParameterVector | None = None) -> Any:
    """The Hessian, from products, which tests of their own compare with dense references."""
    point = oracle.parameters if point is None else point
    units = np.eye(sum(group.size for group in oracle.groups))
    return np.stack([flat(oracle.hessian_vector_product(point, vector_of(oracle, unit))) for unit in units], axis=1)


def assert_close(value: Any, expected: Any, what: str, tolerance: float = 1e-9) -> None:
    error = float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))
    assert error <= tolerance, (
        f"relative error {error:.1e} of {what}, at most {tolerance:.0e} is allowed: {value} instead of {expected}"
    )
