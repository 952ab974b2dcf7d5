"""Algorithm 1 of Tsuzuku, Sato and Sugiyama (2019) probes with differences of gradients, (61): what their step does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork

SIZES = (8, 30, 30, 4)


def network() -> NetworkOracle:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)) / m**0.5 for m, n in pairwise(SIZES)]
    return NetworkOracle(ReluNetwork(weights), rng.normal(size=(200, 8)), rng.integers(4, size=200))


def smooth() -> FunctionOracle:
    """``sum w^4``, of which the Hessian is diagonal."""
    return FunctionOracle(
        {"w": np.linspace(-1, 1, 7)},
        lambda p: float((p["w"] ** 4).sum()),
        lambda p: {"w": 4 * p["w"] ** 3},
        lambda p, v: {"w": 12 * p["w"] ** 2 * v["w"]},
    )


def relative_error(oracle: ish.CurvatureOracle, step: float) -> float:
    """Of the sum over the diagonal that (61) gives for one vector, beside the product with the Hessian itself."""
    point, v = oracle.parameters, prng.normals(oracle, 0, 0)
    product = oracle.hessian_vector_product(point, v).dot(v)
    difference = (oracle.gradient(point + step * v) - oracle.gradient(point - step * v)).dot(v) / (2 * step)
    return abs(difference / product - 1)


def test_of_a_smooth_loss_it_is_the_hessian_up_to_the_square_of_the_step() -> None:
    for step in (1e-1, 1e-2, 1e-3):
        error = relative_error(smooth(), step)
        assert error <= 20 * step**2, f"error {error:.1e} for a step of {step}"


def test_within_one_linear_piece_it_is_the_hessian() -> None:
    error = relative_error(network(), 1e-7)
    assert error <= 1e-6, f"error {error:.1e}"


@pytest.mark.parametrize("step", [1e-4, 1e-3, 1e-2, 1e-1])
def test_across_the_kinks_of_a_network_it_is_another_quantity(step: float) -> None:
    """The weights are about 0.2; the paper does not say which step it took."""
    error = relative_error(network(), step)
    assert error > 0.1, f"error {error:.1e} for a step of {step}: the kinks should be seen"
