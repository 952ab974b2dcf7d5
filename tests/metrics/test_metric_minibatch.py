"""Measures of minibatches: their formulas written out, what leaves them alone, and where they say nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo.mixed_coordinates import Linear
from zoo.vectors import assert_close, flat

EXAMPLES, CLASSES, MINIBATCHES = 36, 3, 4
SIZES = (4, 5, CLASSES)

X = np.random.default_rng(0).normal(size=(EXAMPLES, 4))
Y = np.random.default_rng(1).integers(CLASSES, size=EXAMPLES)
PARTS = prng.permutation(0, EXAMPLES).reshape(MINIBATCHES, -1)


def network(sizes: Sequence[int] = SIZES, *, biases: bool = True) -> ReluNetwork:
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=(n, m)) for m, n in pairwise(sizes)]
    return ReluNetwork(weights, [rng.normal(size=n) for n in sizes[1:]] if biases else None)


def oracle(sizes: Sequence[int] = SIZES, *, biases: bool = True) -> NetworkOracle:
    return NetworkOracle(network(sizes, biases=biases), X, Y)


def part_gradients(model: NetworkOracle) -> Any:
    """Of the same minibatches, each by an oracle of its own."""
    parts = [NetworkOracle(model.network, X[part], Y[part]) for part in PARTS]
    return np.stack([flat(part.gradient(part.parameters)) for part in parts])


def fisher_root(model: NetworkOracle) -> Any:
    """The matrix B with ``F = B^T B``, row by row from Jacobian products, and the probabilities."""
    p = softmax(model.outputs(model.parameters, EXAMPLES), axis=1)
    rows = []
    for n in range(EXAMPLES):
        root = np.diag(np.sqrt(p[n])) - np.outer(np.sqrt(p[n]), p[n])
        for k in range(CLASSES):
            cotangents = np.zeros((EXAMPLES, CLASSES))
            cotangents[n] = root[k]
            rows.append(flat(model.vector_jacobian_product(model.parameters, cotangents)))
    return np.stack(rows) / EXAMPLES**0.5, p


def mean_regret(gram: Any) -> float:
    norms = np.sqrt(np.diag(gram))
    pairs = [(i, j) for i in range(MINIBATCHES) for j in range(MINIBATCHES) if i != j]
    return float(np.mean([norms[j] - gram[i, j] / norms[i] for i, j in pairs]))


def moved(model: Any, factors: Any) -> ish.Moved:
    (rescaling,) = chain_rescalings(model.groups)
    return ish.Moved(model, rescaling.apply(model, model.parameters, factors))


def test_local_regret_is_its_formula() -> None:
    G = part_gradients(oracle())
    assert_close(ish.local_regret(oracle(), minibatches=MINIBATCHES).value, mean_regret(G @ G.T), "local regret", 1e-12)


def test_kl_regret_is_its_formula_with_a_dense_pseudo_inverse() -> None:
    model = oracle()
    B, _ = fisher_root(model)
    F = np.linalg.pinv(B.T @ B, rcond=1e-11, hermitian=True)
    G = part_gradients(model)
    found = ish.kl_regret(model, minibatches=MINIBATCHES)
    assert_close(found.value, mean_regret(G @ F @ G.T), "KL regret", 1e-8)
    assert found.converged, f"residual {found.certificate}"


def test_kl_regret_is_a_projection_in_function_space() -> None:
    """``g_2^T F^+ g_1 = a_2^T P a_1`` with the projector on the range of B, and ``a = sqrt(N) L^(+1/2) (p - e_y) / |b|``."""
    model = oracle()
    B, p = fisher_root(model)
    a = np.zeros((MINIBATCHES, EXAMPLES, CLASSES))
    for b, part in enumerate(PARTS):
        for n in part:
            residual = p[n] - np.eye(CLASSES)[Y[n]]
            root = np.diag(np.sqrt(p[n])) - np.outer(np.sqrt(p[n]), p[n])
            a[b, n] = EXAMPLES**0.5 / len(part) * np.linalg.lstsq(root.T, residual, rcond=None)[0]
    U, S, _ = np.linalg.svd(B, full_matrices=False)
    along = a.reshape(MINIBATCHES, -1) @ U[:, 1e-8 * S[0] < S]
    found = ish.kl_regret(model, minibatches=MINIBATCHES).value
    assert_close(found, mean_regret(along @ along.T), "KL regret", 1e-8)


def exact_regret(weights: Any, squared_length: Callable[[Any], float], radius: float) -> float:
    """Over the radius, from the minima of the losses of softmax regression in the ball, by SciPy."""

    def loss(part: Any, d: Any) -> float:
        return float(
            -log_softmax(X[part] @ (weights + d.reshape(weights.shape)).T, axis=1)[np.arange(len(part)), Y[part]].mean()
        )

    def least(part: Any) -> Any:
        ball = {"type": "ineq", "fun": lambda d: 1 - squared_length(d) / radius**2}
        start = -1e-3 * radius * np.ones(weights.size)
        options = {"maxiter": 500, "ftol": 1e-13}
        return minimize(lambda d: loss(part, d) / radius, start, constraints=[ball], method="SLSQP", options=options).x

    minima = [least(part) for part in PARTS]
    pairs = [(i, j) for i in range(MINIBATCHES) for j in range(MINIBATCHES) if i != j]
    return float(np.mean([loss(PARTS[j], minima[i]) - loss(PARTS[j], minima[j]) for i, j in pairs])) / radius


@pytest.mark.parametrize("radius", [0.1, 0.03, 0.01])
def test_local_regret_is_the_limit_of_the_exact_ball(radius: float) -> None:
    model = oracle((4, CLASSES), biases=False)
    exact = exact_regret(model.network.weights[0], lambda d: float(d @ d), radius)
    found = ish.local_regret(model, minibatches=MINIBATCHES).value
    assert_close(found, exact, f"at radius {radius}, the limit", 2 * radius)


@pytest.mark.parametrize("radius", [0.1, 0.03, 0.01])
def test_kl_regret_is_the_limit_of_the_exact_ball(radius: float) -> None:
    """The ball of the exact divergence."""
    model = oracle((4, CLASSES), biases=False)
    W = model.network.weights[0]
    here = log_softmax(X @ W.T, axis=1)

    def divergence(d: Any) -> float:
        there = log_softmax(X @ (W + d.reshape(W.shape)).T, axis=1)
        return float(((np.exp(there) - np.exp(here)) * (there - here)).sum(axis=1).mean())

    found = ish.kl_regret(model, minibatches=MINIBATCHES).value
    assert_close(found, exact_regret(W, divergence, radius), f"at radius {radius}, the limit", 2 * radius)


@pytest.mark.parametrize("steps", [2, 20])
def test_kl_regret_survives_row_and_column_rescaling_also_where_it_is_truncated(steps: int) -> None:
    model = oracle()
    factors = np.ldexp(1.0, np.array([9, -7, 0, 3, -12]))
    before, after = (
        ish.kl_regret(o, minibatches=MINIBATCHES, max_iterations=steps).value for o in (model, moved(model, factors))
    )
    assert_close(after, before, f"KL regret after {steps} steps", 1e-8 if steps == 20 else 1e-12)


def test_kl_regret_survives_any_linear_map() -> None:
    model = oracle()
    size = sum(group.size for group in model.groups)
    rng = np.random.default_rng(3)
    Q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    A = Q * np.geomspace(1, 100, size) @ np.linalg.qr(rng.normal(size=(size, size)))[0]
    before, after = (ish.kl_regret(o, minibatches=MINIBATCHES).value for o in (model, Linear(model, A)))
    assert_close(after, before, "KL regret in mixed coordinates", 1e-8)
    raw, mixed = (ish.local_regret(o, minibatches=MINIBATCHES).value for o in (model, Linear(model, A)))
    assert abs(mixed / raw - 1) > 0.5, f"Euclidean regret {raw} and {mixed} in mixed coordinates"


def test_interpolating_network_is_called_degenerate() -> None:
    """12 examples and 3 classes, but 108 parameters: each output moves by itself, and ``|a|^2 = N / |b|^2 sum(1 / p_y - 1)``."""
    x, y = np.random.default_rng(4).normal(size=(12, 4)), np.arange(12) % CLASSES
    model = NetworkOracle(ReluNetwork.initialize((4, 13, CLASSES), seed=0), x, y)
    found = ish.kl_regret(model, minibatches=MINIBATCHES)
    p = softmax(model.outputs(model.parameters, 12), axis=1)[np.arange(12), y]
    parts = prng.permutation(0, 12).reshape(MINIBATCHES, -1)
    lengths = [np.sqrt(12 * np.sum(1 / p[part] - 1)) / len(part) for part in parts]
    assert_close(found.value, float(np.mean(lengths)), "KL regret of an interpolating network", 1e-7)
    assert any("all minibatches are orthogonal" in note for note in found.notes), f"notes {found.notes}"


def test_more_inputs_take_the_degeneracy_away() -> None:
    x, y = np.random.default_rng(4).normal(size=(12, 4)), np.arange(12) % CLASSES
    model = ReluNetwork.initialize((4, 13, CLASSES), seed=0)
    more = np.concatenate([x, np.random.default_rng(5).normal(size=(200, 4))])
    reference = NetworkOracle(model, more, np.zeros(len(more), dtype=int))
    found = ish.kl_regret(NetworkOracle(model, x, y), minibatches=MINIBATCHES, reference=reference)
    assert not any("orthogonal" in note for note in found.notes), f"notes {found.notes}"


def test_contrastive_ratio_of_the_trace_is_one() -> None:
    found = ish.contrastive_ratio(oracle(), measure=ish.hessian_trace, minibatches=MINIBATCHES).value
    assert abs(found - 1) <= 1e-12, f"ratio {found!r}"


def test_contrastive_ratio_is_its_formula() -> None:
    """Eigenvalues of dense Hessians, column by column."""
    model = oracle()

    def norm(part: Any) -> float:
        own = NetworkOracle(model.network, X[part], Y[part])
        units = np.eye(sum(group.size for group in own.groups))
        return float(np.linalg.norm(np.stack([hessian_column(own, unit) for unit in units]), 2))

    expected = np.mean([norm(part) for part in PARTS]) / norm(np.arange(EXAMPLES))
    assert_close(
        ish.contrastive_ratio(model, minibatches=MINIBATCHES).value, float(expected), "contrastive ratio", 1e-6
    )
    assert expected > 1, f"the norm is convex, but the ratio is {expected}"


def hessian_column(model: NetworkOracle, unit: Any) -> Any:
    arrays = {}
    for group in model.groups:
        arrays[group.name], unit = unit[: group.size].reshape(group.shape), unit[group.size :]
    return flat(model.hessian_vector_product(model.parameters, model.from_numpy(arrays)))


def test_contrastive_ratio_of_normalized_sharpness_is_at_most_one_and_stays() -> None:
    model = oracle()
    factors = np.ldexp(1.0, np.array([9, -7, 0, 3, -12]))
    before, after = (
        ish.contrastive_ratio(o, measure=ish.normalized_sharpness, minibatches=MINIBATCHES).value
        for o in (model, moved(model, factors))
    )
    assert before <= 1, f"normalized sharpness is concave in the curvature, but the ratio is {before}"
    assert_close(after, before, "ratio of normalized sharpness", 1e-11)


@pytest.mark.parametrize("metric", [ish.local_regret, ish.contrastive_ratio])
def test_raw_measures_move_and_those_in_balanced_coordinates_stay(metric: Any) -> None:
    model = oracle()
    there = moved(model, np.ldexp(1.0, np.array([5, -4, 0, 3, -6])))
    raw = [metric(o, minibatches=MINIBATCHES).value for o in (model, there)]
    scaled = [metric(ish.Scaled(o, balanced(o)), minibatches=MINIBATCHES).value for o in (model, there)]
    assert abs(raw[1] / raw[0] - 1) > 1e-2, f"{metric.__name__} stayed at {raw}"
    assert_close(scaled[1], scaled[0], f"{metric.__name__} in balanced coordinates", 1e-9)


def test_errors_are_those_of_the_jackknife() -> None:
    """Of the mean over minibatches it is the standard error of a mean."""
    found = ish.contrastive_ratio(oracle(), minibatches=MINIBATCHES)
    norms = [ish.hessian_spectral_norm(NetworkOracle(oracle().network, X[part], Y[part])).value for part in PARTS]
    whole = ish.hessian_spectral_norm(oracle()).value
    expected = np.std(norms, ddof=1) / MINIBATCHES**0.5 / whole
    assert found.standard_error is not None
    assert_close(found.standard_error, float(expected), "standard error", 1e-5)


@pytest.mark.parametrize("metric", [ish.local_regret, ish.kl_regret, ish.contrastive_ratio])
@pytest.mark.parametrize(("minibatches", "message"), [(2, "need at least 3"), (37, "there are only 36 examples")])
def test_wrong_numbers_of_minibatches_are_refused(metric: Any, minibatches: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(oracle(), minibatches=minibatches)


@pytest.mark.parametrize("metric", [ish.local_regret, ish.kl_regret, ish.contrastive_ratio])
def test_oracle_without_examples_is_told_what_is_missing(metric: Any) -> None:
    bare = FunctionOracle({"w": np.ones(3)}, lambda _: 0.0, lambda p: p, lambda _, v: v)
    with pytest.raises(MissingCapabilityError, match="needs examples, subset"):
        metric(bare)
