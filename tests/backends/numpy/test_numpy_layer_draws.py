"""The residual part of the diagonal of ReLU networks, which is zero, and the scales of their output units."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from invariant_sharpness.adapters.layers import Perturbations
from invariant_sharpness.protocol import ResidualDiagonalOracle, capability
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo import complex_step
from zoo.numpy_problem import EXAMPLES, SIZES, dense_hessian, problem, random_network
from zoo.vectors import flat

SETTINGS = [(loss, biases) for loss in ("cross_entropy", "normalized_cross_entropy", "mse") for biases in (True, False)]
every_setting = pytest.mark.parametrize(("loss", "biases"), SETTINGS)


def oracle_of(loss: str, biases: bool) -> Any:
    oracle = capability(problem(loss, biases).oracle, ResidualDiagonalOracle)
    assert oracle is not None
    return oracle


@cache
def gauss_newton(loss: str, biases: bool) -> Any:
    """The diagonal of G, of Jacobians by complex steps and output Hessians by differences of them."""
    p = problem(loss, biases)

    def rows(theta: Any) -> Any:
        return complex_step.outputs(SIZES, theta, p.x, biases=biases).reshape(len(theta), -1)

    J = complex_step.derivatives(rows, p.theta[None])[0].T.reshape(EXAMPLES, SIZES[-1], -1)
    z = complex_step.outputs(SIZES, p.theta[None], p.x, biases=biases)[0]
    curvature = [
        complex_step.hessian(lambda row, y=p.y[n : n + 1]: p.example_loss(row[:, None], y)[:, 0], z[n])
        for n in range(EXAMPLES)
    ]
    return np.einsum("nka,nkl,nla->a", J, np.stack(curvature), J) / EXAMPLES


@every_setting
def test_residual_diagonal_is_that_of_the_dense_matrices(loss: str, biases: bool) -> None:
    oracle = oracle_of(loss, biases)
    units = oracle.layer_units(oracle.parameters)
    assert set(units) == {group.name for group in oracle.groups}, f"{sorted(units)} have a layer"
    expected = np.diagonal(dense_hessian(loss, biases)) - gauss_newton(loss, biases)
    draws = oracle.sampled_residual_diagonal(oracle.parameters, units, range(2), 0)
    for found in (flat(oracle.residual_diagonal(oracle.parameters, units)), flat(draws)):
        error = np.abs(found - expected).max() / np.abs(np.diagonal(dense_hessian(loss, biases))).max()
        assert error <= 1e-9, f"H - G is {expected}, found {found}"


def test_only_the_named_groups_are_there() -> None:
    oracle, some = oracle_of("cross_entropy", biases=True), "layers.1.bias"
    units = oracle.layer_units(oracle.parameters)
    with oracle.engine.at(oracle.engine.parameters()) as point:
        batch = oracle.engine.batch((np.ones((2, SIZES[0])), np.array([0, 1])))
        (arrays,) = point.residual_squares(Perturbations({some: units[some]}, None), batch).arrays
    assert {name: array.shape for name, array in arrays.items()} == {some: (SIZES[2],)}


def test_moments_are_those_of_complex_steps() -> None:
    """Cotangents of a layer's outputs are the derivatives of the losses in an own bias of each example."""
    p, oracle = problem("cross_entropy", biases=True), oracle_of("cross_entropy", biases=True)
    data = (p.x, p.y)
    with oracle.engine.at(oracle.engine.parameters()) as point:
        found = point.layer_moments(oracle.engine.batch(data))
    slopes = complex_step.derivatives(p.losses, p.theta[None])[0]
    position, a = 0, p.x
    for layer, (W, b) in enumerate(random_network(biases=True).layers):
        z = a @ W.T + b
        position += W.size
        expected = np.stack([(z**2).sum(0), (slopes[position : position + b.size] ** 2).sum(1)])
        position += b.size
        a = np.maximum(z, 0)
        for name in (f"layers.{layer}.weight", f"layers.{layer}.bias"):
            error = np.abs(found.squares[name] - expected).max()
            assert error <= 1e-12, f"{name}: {found.squares[name]}, not {expected}"
            assert found.outputs[name] == b.size, f"{name} has {found.outputs[name]} outputs, not {b.size}"


def test_scales_move_with_the_units_bit_by_bit() -> None:
    p, network = problem("cross_entropy", biases=True), random_network(biases=True)
    factors = 2.0 ** np.array([3, -5, 0, 9, -2])
    (first, second, *rest), (bias, *biases) = network.weights, network.biases or ()
    moved = ReluNetwork((first * factors[:, None], second / factors, *rest), (bias * factors, *biases))
    before, after = (
        oracle.layer_units(oracle.parameters)["layers.0.weight"].scale
        for oracle in (NetworkOracle(n, p.x, p.y) for n in (network, moved))
    )
    ratio = after / before / factors
    assert (ratio == ratio[0]).all(), f"scales moved from {before} to {after}, not by {factors}"
