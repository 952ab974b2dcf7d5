"""Quadratic losses with a given Hessian, and the Hessian of a small network on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle
from invariant_sharpness_numpy.training import train_network
from zoo.vectors import flat

SPECTRA = {
    "flat": lambda i: 1 + i / 100,
    "polynomial": lambda i: (i + 1.0) ** -2,
    "exponential": lambda i: 0.7**i,
    "indefinite": lambda i: (-1.0) ** i / (i + 1),
}


class QuadraticOracle(FunctionOracle):
    """The loss ``theta^T H theta / 2``, its parameters cut into groups; it multiplies blocks, and counts products."""

    def __init__(self, hessian: Any, groups: Sequence[ish.ParameterGroup] | None = None) -> None:
        self.hessian = hessian
        shapes = {g.name: g.shape for g in groups} if groups else _shapes(len(hessian))
        super().__init__(
            {name: np.zeros(shape) for name, shape in shapes.items()},
            lambda p: float(flat(self.from_numpy(p)) @ hessian @ flat(self.from_numpy(p))) / 2,
            lambda p: self._cut(hessian @ flat(self.from_numpy(p))).arrays,
            lambda _, v: self._multiplied([self.from_numpy(v)])[0].arrays,
            groups,
        )
        self.multiplied = 0

    def hessian_vector_products(
        self, parameters: ish.ParameterVector, vectors: Sequence[ish.ParameterVector], /
    ) -> list[ish.ParameterVector]:
        return self._multiplied(vectors)

    def _multiplied(self, vectors: Sequence[ish.ParameterVector]) -> list[ish.ParameterVector]:
        self.multiplied += len(vectors)
        return [self._cut(column) for column in (self.hessian @ np.stack([flat(v) for v in vectors], axis=1)).T]

    def _cut(self, values: Any) -> ish.ParameterVector:
        ends = np.cumsum([group.size for group in self.groups])[:-1]
        parts = zip(self.groups, np.split(values, ends), strict=True)
        return ish.ParameterVector(self.xp, {group.name: part.reshape(group.shape) for group, part in parts})


def _shapes(size: int) -> dict[str, tuple[int, ...]]:
    """A matrix, a scalar and a vector."""
    rows = size // 6
    return {"matrix": (rows, 3), "scalar": (), "vector": (size - 3 * rows - 1,)}


def symmetric(eigenvalues: Any, seed: int = 0) -> Any:
    """A matrix with these eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    U = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return (U * eigenvalues) @ U.T


def with_spectrum(name: str, size: int = 60) -> Any:
    return symmetric(SPECTRA[name](np.arange(size)))


def of_rank(rank: int, size: int = 60) -> Any:
    """An indefinite matrix of low rank."""
    return symmetric(np.r_[np.linspace(-1, 3, rank), np.zeros(size - rank)])


def signs(oracle: ish.CurvatureOracle, count: int, seed: int) -> Any:
    """The sign vectors of the library as the columns of a matrix."""
    return np.stack([flat(prng.signs(oracle, seed, index)) for index in range(count)], axis=1)


def orthonormal(vectors: Any) -> Any:
    """An orthonormal basis of the range of a matrix."""
    U, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    return U[:, sizes > 1e-10 * sizes.max(initial=0)]


@cache
def digits_hessian(hidden: int = 13, examples: int = 500) -> Any:
    """The dense Hessian of a trained 64-hidden-10 ReLU network, column by column; 985 parameters by default."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = x[:examples] / 16.0, y[:examples].astype(int)
    network = NetworkOracle(train_network(x, y, sizes=(64, hidden, 10), seed=0), x, y)
    quadratic = QuadraticOracle(np.eye(sum(group.size for group in network.groups)), network.groups)
    columns = [network.hessian_vector_product(network.parameters, quadratic._cut(row)) for row in quadratic.hessian]
    H = np.stack([flat(column) for column in columns])
    return (H + H.T) / 2


def digits_oracle(hidden: int = 13) -> QuadraticOracle:
    """A quadratic loss with the Hessian of the network on digits."""
    groups = [
        ish.ParameterGroup("weight1", (hidden, 64), "matrix", (0,), (1,)),
        ish.ParameterGroup("bias1", (hidden,), "bias", (0,), owner="weight1"),
        ish.ParameterGroup("weight2", (10, hidden), "matrix", (0,), (1,)),
        ish.ParameterGroup("bias2", (10,), "bias", (0,), owner="weight2"),
    ]
    return QuadraticOracle(digits_hessian(hidden), groups)
