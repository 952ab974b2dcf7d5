"""Many products in one pass over the data: the same values, within the memory that is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.estimators.products import block_size, hessian_vector_products
from zoo.torch_networks import random_problem

VECTORS = 6


class CountedBatches:
    """Batches that know how often they have been read."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.passes = 0
        self._pairs = list(zip(x.split(4), y.split(4), strict=True))

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self._pairs)


def problem() -> tuple[ish.CurvatureOracle, CountedBatches]:
    model, x, y = random_problem("cnn")
    batches = CountedBatches(x, y)
    return ish.oracle(model, batches), batches


def products(oracle: ish.CurvatureOracle) -> list[Any]:
    vectors = (prng.signs(oracle, 0, index) for index in range(VECTORS))
    return [product for _, product in hessian_vector_products(oracle, vectors)]


def test_data_are_read_once_for_all_vectors() -> None:
    oracle, batches = problem()
    before = batches.passes
    products(oracle)
    assert batches.passes - before == 1, f"{batches.passes - before} passes for {VECTORS} vectors"


def test_products_of_a_block_are_those_of_single_vectors_bit_by_bit() -> None:
    oracle, _ = problem()
    for index, product in enumerate(products(oracle)):
        alone = oracle.hessian_vector_product(oracle.parameters, prng.signs(oracle, 0, index))
        differing = [name for name in product.arrays if not torch.equal(product[name], alone[name])]
        assert not differing, f"vector {index} of the block differs in {differing}"


def test_memory_limit_makes_blocks_shorter_and_changes_nothing_but_rounding() -> None:
    """It also cuts batches into pieces, whose sums are added in another order."""
    oracle, batches = problem()
    whole, before = products(oracle), batches.passes
    size = sum(8 * group.size for group in oracle.groups)
    with ish.memory_limit(2 * 3 * size):
        assert block_size(oracle) == 2
        parts = products(oracle)
    assert batches.passes - before == VECTORS // 2, f"{batches.passes - before} passes in blocks of two"
    error = max(float((a - b).norm() / a.norm()) for a, b in zip(whole, parts, strict=True))
    assert error <= 1e-14, f"relative error {error:.1e}"


def test_memory_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"memory_limit\(0\), but it is a number of bytes"), ish.memory_limit(0):
        pass
