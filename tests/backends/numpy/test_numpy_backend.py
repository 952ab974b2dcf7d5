"""The NumPy reference backend against dense derivatives by complex steps."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.registry import DemonstrationBackend
from invariant_sharpness.protocol import ExampleGradientOracle, GaussNewtonDiagonalOracle, supports
from invariant_sharpness.runtime.progress import listening
from invariant_sharpness_numpy import ReluNetwork, backend
from zoo import complex_step
from zoo.numpy_problem import EXAMPLE_LOSSES, dense_hessian, example_gradients, problem, random_data, random_network
from zoo.vectors import assert_close, flat

PROBLEMS = [(loss, biases) for loss in EXAMPLE_LOSSES for biases in (True, False)]
everywhere = pytest.mark.parametrize(("loss", "biases"), PROBLEMS, ids=lambda v: v if isinstance(v, str) else f"b={v}")


# --- derivatives ----------------------------------------------------------------------------------


@everywhere
def test_loss_is_the_mean_over_the_examples(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    assert_close(p.oracle.loss(p.oracle.parameters), p.mean_loss(p.theta[None])[0], "the loss", 1e-14)


@everywhere
def test_gradient_is_the_complex_step_derivative(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    assert_close(
        flat(p.oracle.gradient(p.oracle.parameters)), complex_step.gradient(p.mean_loss, p.theta), "gradient", 1e-13
    )


@everywhere
def test_hessian_vector_products_give_the_dense_hessian(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    columns = [
        flat(p.oracle.hessian_vector_product(p.oracle.parameters, p.vector(unit))) for unit in np.eye(len(p.theta))
    ]
    assert_close(np.stack(columns, axis=1), dense_hessian(loss, biases), "Hessian")


@everywhere
def test_derivatives_elsewhere_than_at_the_network_are_taken_there(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    there = 0.75 * p.theta
    value = flat(p.oracle.gradient(p.vector(there)))
    assert_close(value, complex_step.gradient(p.mean_loss, there), "gradient at 0.75 theta", 1e-13)


@everywhere
def test_gauss_newton_diagonal_is_that_of_the_dense_hessian(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    names = frozenset(group.name for group in p.oracle.groups)
    diagonal = flat(p.oracle.gauss_newton_diagonal(p.oracle.parameters, names))
    assert_close(diagonal, np.diagonal(dense_hessian(loss, biases)), "diagonal")


@everywhere
def test_outputs_have_no_second_derivative_within_a_group(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    direction = p.vector(np.random.default_rng(5).normal(size=len(p.theta)))
    first, second = p.oracle.output_curvature(p.oracle.parameters, direction, 0)
    assert not flat(second).any(), f"second derivative {flat(second)}, but should be exactly zero"
    assert all(array.any() for array in first.arrays.values()), f"a first derivative is zero: {first.arrays}"


def test_output_cotangents_are_fixed_by_the_seed() -> None:
    p = problem("cross_entropy", biases=True)
    first, again, other = [
        flat(p.oracle.output_curvature(p.oracle.parameters, p.oracle.parameters, seed)[0]) for seed in (0, 0, 1)
    ]
    assert np.array_equal(first, again), "the same seed gave another derivative"
    assert not np.allclose(first, other), "another seed gave the same derivative"


def test_gauss_newton_diagonal_is_zero_outside_the_named_groups() -> None:
    oracle = problem("cross_entropy", biases=True).oracle
    full = oracle.gauss_newton_diagonal(oracle.parameters, frozenset(group.name for group in oracle.groups))
    part = oracle.gauss_newton_diagonal(oracle.parameters, frozenset({"layers.1.weight"}))
    expected = full.only(["layers.1.weight"])
    assert np.array_equal(flat(part), flat(expected)), f"{flat(part)} instead of {flat(expected)}"


@everywhere
def test_gradient_second_moment_is_the_mean_of_squared_example_gradients(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    expected = np.mean(example_gradients(loss, biases) ** 2, axis=1)
    assert_close(flat(p.oracle.gradient_second_moment(p.oracle.parameters)), expected, "second moment", 1e-12)


@everywhere
def test_directional_second_moment_is_the_mean_of_squared_slopes(loss: str, biases: bool) -> None:
    p = problem(loss, biases)
    u = np.random.default_rng(6).normal(size=len(p.theta))
    expected = np.mean((u @ example_gradients(loss, biases)) ** 2)
    assert_close(p.oracle.directional_second_moment(p.oracle.parameters, p.vector(u)), expected, "moment", 1e-12)


X, Y = random_data("cross_entropy")


# --- network and entry point ----------------------------------------------------------------------


def test_network_computes_its_formula() -> None:
    network = random_network(biases=True)
    (W1, W2, W3), (b1, b2, b3) = network.weights, network.biases or ()
    expected = [W3 @ np.maximum(W2 @ np.maximum(W1 @ x + b1, 0) + b2, 0) + b3 for x in X]
    assert_close(network(X), np.array(expected), "outputs", 1e-14)


def test_initial_weights_have_the_variance_of_he() -> None:
    network = ReluNetwork.initialize((400, 300, 10), seed=0)
    for W in network.weights:
        deviation, expected = W.std(), np.sqrt(2 / W.shape[1])
        bound = 5 / np.sqrt(2 * W.size)
        assert abs(deviation / expected - 1) < bound, f"standard deviation {deviation}, but should be {expected}"
    assert network.biases is not None
    assert not any(b.any() for b in network.biases), f"biases {network.biases}, but should be zero"


def test_groups_say_what_their_axes_are_and_whose_the_biases_are() -> None:
    groups = problem("mse", biases=True).oracle.groups
    described = [(g.name, g.shape, g.role, g.output_axes, g.input_axes, g.owner) for g in groups[:2]]
    expected = [
        ("layers.0.weight", (5, 4), "matrix", (0,), (1,), None),
        ("layers.0.bias", (5,), "bias", (0,), (), "layers.0.weight"),
    ]
    assert described == expected, f"{described} instead of {expected}"


def test_the_oracle_has_every_capability() -> None:
    oracle = problem("mse", biases=True).oracle
    missing = [c.__name__ for c in (GaussNewtonDiagonalOracle, ExampleGradientOracle) if not supports(oracle, c)]
    assert not missing, f"missing: {missing}"


def test_metrics_of_a_network_come_from_the_dense_hessian() -> None:
    report = ish.measure(ish.oracle(random_network(biases=True), (X, Y), batch_size=4))
    matrix = dense_hessian("cross_entropy", biases=True)
    assert_close(report["hessian_trace"].value, np.trace(matrix), "trace")
    largest = np.abs(np.linalg.eigvalsh((matrix + matrix.T) / 2)).max()
    assert_close(report["hessian_spectral_norm"].value, largest, "spectral norm", 1e-6)


def test_the_backend_accepts_its_networks_alone() -> None:
    assert isinstance(backend, DemonstrationBackend)
    assert backend.accepts(random_network(biases=True)), "a ReluNetwork was refused"
    assert not backend.accepts(lambda x: x), "a function was accepted"


def test_importing_the_backend_loads_no_framework_and_no_learning_library() -> None:
    code = "import sys, invariant_sharpness_numpy; print([m for m in ('torch', 'sklearn', 'matplotlib') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert loaded == "[]", f"importing the backend loaded {loaded}"


def test_training_fits_labels_and_reports_its_progress() -> None:
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(60, 8)), random.integers(0, 3, 60)
    heard: list[str] = []
    with listening(lambda label, _done, _total, _gradients: heard.append(label)):
        network = backend.train_network(x, labels, sizes=(8, 32, 3), seed=0)
    assert backend.accuracy(network, x, labels) == 1.0, f"accuracy {backend.accuracy(network, x, labels)}"
    assert set(heard) == {"training"}, f"progress of {set(heard)}"


def test_training_is_fixed_by_the_seed() -> None:
    x, labels = X, Y
    first, again, other = [backend.train_network(x, labels, sizes=(4, 6, 3), seed=s).weights[0] for s in (0, 0, 1)]
    assert np.array_equal(first, again), "the same seed gave another network"
    assert not np.array_equal(first, other), "another seed gave the same network"
