"""The host reads once a pass and a few times a step of Lanczos' method, whatever the number of groups and of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness import prng
from zoo import host_reads, jax_host_reads

BLOCKS, WIDTH, STEPS = 12, 8, 25
"""With the last layer 50 groups, of which half are those of batch norms."""

MOST_OF_A_PASS, MOST_OF_A_NORM = 3, 200


def of_torch() -> Any:
    torch.manual_seed(0)
    blocks = [
        module
        for _ in range(BLOCKS)
        for module in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.Tanh())
    ]
    model = torch.nn.Sequential(*blocks, torch.nn.Linear(WIDTH, 3)).eval()
    batches = [(torch.randn(4, WIDTH), torch.randint(3, (4,))) for _ in range(2)]
    return ish.oracle(model, batches, loss="cross_entropy")


def of_jax() -> Any:
    rng = np.random.default_rng(0)
    sizes = [*[(WIDTH, WIDTH), (WIDTH,)] * (2 * BLOCKS), (WIDTH, 3), (3,)]
    leaves = {f"{number:02}": jnp.asarray(rng.normal(size=size) / 3, jnp.float32) for number, size in enumerate(sizes)}

    def apply(parameters: Any, inputs: Any) -> Any:
        arrays = list(parameters.values())
        for weight, bias in zip(arrays[::2], arrays[1::2], strict=True):
            inputs = jnp.tanh(inputs @ weight + bias)
        return inputs

    batches = [(rng.normal(size=(4, WIDTH)).astype(np.float32), rng.integers(3, size=4)) for _ in range(2)]
    return ish.oracle(apply, batches, loss="cross_entropy", parameters=leaves)


ENGINES = {"torch": (of_torch, host_reads.counted_reads), "jax": (of_jax, jax_host_reads.counted_reads)}


@pytest.fixture(params=ENGINES, scope="module")
def measured(request: pytest.FixtureRequest) -> Any:
    """An oracle of 50 groups that has seen a pass, and what counts its reads."""
    build, counted = ENGINES[request.param]
    oracle = build()
    assert len(oracle.groups) == 50, f"{len(oracle.groups)} groups instead of 50"
    oracle.gradient(oracle.parameters)
    return oracle, counted


def products(oracle: Any) -> dict[str, Callable[[], Any]]:
    vector = prng.signs(oracle, 0, 0)
    return {
        "loss": lambda: oracle.loss(oracle.parameters),
        "gradient": lambda: oracle.gradient(oracle.parameters),
        "product": lambda: oracle.hessian_vector_product(oracle.parameters, vector),
        "Gauss-Newton product": lambda: oracle.gauss_newton_vector_product(oracle.parameters, vector),
        "inner product": lambda: vector.dot(vector),
    }


@pytest.mark.parametrize("name", ["loss", "gradient", "product", "Gauss-Newton product", "inner product"])
def test_a_pass_reads_at_most_three_times(measured: Any, name: str) -> None:
    oracle, counted = measured
    run = products(oracle)[name]
    with counted() as reads:
        run()
    assert 1 <= len(reads) <= MOST_OF_A_PASS, f"{name} read {len(reads)} times: {Counter(reads)}"


def test_a_spectral_norm_of_25_steps_reads_at_most_200_times(measured: Any) -> None:
    oracle, counted = measured
    with counted() as reads:
        norm = ish.hessian_spectral_norm(oracle, tolerance=1e-15, max_iterations=STEPS)
    assert f"{STEPS} steps" in norm.method, f"{norm.method}: not all of {STEPS} steps were taken"
    assert STEPS <= len(reads) <= MOST_OF_A_NORM, f"{len(reads)} reads: {Counter(reads)}"


def test_every_way_to_read_a_tensor_is_counted() -> None:
    tensor = torch.ones(1)
    ways: list[Callable[[], Any]] = [
        lambda: float(tensor), lambda: int(tensor), lambda: bool(tensor), tensor.item, tensor.tolist, tensor.numpy,
        tensor.cpu, lambda: np.asarray(tensor),
    ]  # fmt: skip
    for number, read in enumerate(ways):
        with host_reads.counted_reads() as reads:
            read()
        assert len(reads) == 1, f"way {number} was counted {len(reads)} times"


def test_every_way_to_read_an_array_of_jax_is_counted() -> None:
    ways: list[Callable[[Any], Any]] = [float, int, bool, lambda a: a.tolist(), lambda a: jax.device_get([a, a + 1])]
    for number, read in enumerate(ways):
        array = jnp.asarray(1.0) + number
        with jax_host_reads.counted_reads() as reads:
            read(array)
        assert len(reads) == 1, f"way {number} was counted {len(reads)} times"
