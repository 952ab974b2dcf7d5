"""The congruence-invariant contrastive ratio: dense matrices, every linear map, and where it says nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.estimators.compressed_matrices import compressions
from invariant_sharpness.estimators.minibatches import minibatches_of
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo.mixed_coordinates import Linear
from zoo.vectors import assert_close, flat

EXAMPLES, CLASSES, MINIBATCHES = 40, 3, 4
SIZES = (4, 5, CLASSES)
PARTS = prng.permutation(0, EXAMPLES).reshape(MINIBATCHES, -1)


def oracle(examples: int = EXAMPLES) -> NetworkOracle:
    rng = np.random.default_rng(2)
    weights = [rng.normal(size=(n, m)) for m, n in pairwise(SIZES)]
    network = ReluNetwork(weights, [rng.normal(size=n) for n in SIZES[1:]])
    return NetworkOracle(network, rng.normal(size=(examples, 4)), rng.integers(CLASSES, size=examples))


def outputs_moved(model: NetworkOracle) -> Any:
    """The rows ``L_n^(1/2) J_n`` of each example, from Jacobian products: shape (examples, classes, parameters)."""
    p = softmax(model.outputs(model.parameters, EXAMPLES), axis=1)
    rows = np.zeros((EXAMPLES, CLASSES, sum(group.size for group in model.groups)))
    for n in range(EXAMPLES):
        root = np.diag(np.sqrt(p[n])) - np.outer(np.sqrt(p[n]), p[n])
        for k in range(CLASSES):
            cotangents = np.zeros((EXAMPLES, CLASSES))
            cotangents[n] = root[k]
            rows[n, k] = flat(model.vector_jacobian_product(model.parameters, cotangents))
    return rows


def dense(rows: Any) -> tuple[float, int]:
    """The value by eigenvalues of dense matrices, and the rank."""
    flat_rows = [rows[part].reshape(-1, rows.shape[2]) for part in PARTS]
    matrices = [r.T @ r / len(part) for r, part in zip(flat_rows, PARTS, strict=True)]
    values, vectors = np.linalg.eigh(np.mean(matrices, axis=0))
    kept = values > 1e-12 * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])
    return float(np.mean([np.linalg.norm(root.T @ G @ root) ** 2 for G in matrices])), int(kept.sum())


def value(model: Any, **options: Any) -> float:
    return ish.congruent_contrastive_ratio(model, minibatches=MINIBATCHES, **options).value


def test_value_is_that_of_dense_matrices() -> None:
    expected, rank = dense(outputs_moved(oracle()))
    found = ish.congruent_contrastive_ratio(oracle(), minibatches=MINIBATCHES)
    assert_close(found.value, expected, "the ratio", 1e-8)
    assert found.converged, str(found)
    assert found.notes == (f"rank {rank}, value / rank {expected / rank:.6g}",), found.notes
    assert rank < expected < MINIBATCHES * rank, f"{expected} is not between the rank {rank} and {MINIBATCHES} times it"


def test_value_is_that_of_the_diagonal_blocks_of_a_projector_in_function_space() -> None:
    rows = outputs_moved(oracle())
    U, S, _ = np.linalg.svd(rows.reshape(-1, rows.shape[2]), full_matrices=False)
    U = U[:, 1e-6 * S[0] < S].reshape(EXAMPLES, CLASSES, -1)
    blocks = [U[part].reshape(-1, U.shape[2]) @ U[part].reshape(-1, U.shape[2]).T for part in PARTS]
    assert_close(value(oracle()), MINIBATCHES * sum(float(np.sum(block**2)) for block in blocks), "the ratio", 1e-8)


def test_mean_of_the_traces_is_the_rank() -> None:
    parts, _ = minibatches_of(ish.GaussNewton(oracle()), MINIBATCHES, 0, "test")
    found = compressions(parts, probes=256, seed=0)
    traces = np.trace(found.whitened, axis1=1, axis2=2)
    assert_close(float(traces.mean()), dense(outputs_moved(oracle()))[1], "the mean of the traces", 1e-11)
    assert np.ptp(traces) > 0.1, f"each trace is the rank, which proves nothing: {traces}"


def test_any_linear_map_leaves_it_alone() -> None:
    model, rng = oracle(), np.random.default_rng(3)
    size = sum(group.size for group in model.groups)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    mixed = Linear(model, left * np.geomspace(1, 30, size) @ right)
    assert_close(value(mixed), value(model), "the ratio in mixed coordinates", 1e-8)
    raw = [ish.contrastive_ratio(o, minibatches=MINIBATCHES).value for o in (model, mixed)]
    assert abs(raw[1] / raw[0] - 1) > 1e-2, f"the ratio of spectral norms stayed at {raw}"


@pytest.mark.parametrize("directions", [9, 256])
def test_rescaled_units_leave_it_alone_also_where_directions_are_few(directions: int) -> None:
    model = oracle()
    (rescaling,) = chain_rescalings(model.groups)
    factors = np.ldexp(1.0, np.array([9, -7, 0, 3, -12]))
    moved = ish.Moved(model, rescaling.apply(model, model.parameters, factors))
    assert_close(value(moved, num_matvecs=directions), value(model, num_matvecs=directions), "the rescaled ratio", 1e-8)


def test_few_directions_give_a_lower_bound_and_say_so() -> None:
    whole = value(oracle())
    values = [whole]
    for directions in (30, 15, 5):
        found = ish.congruent_contrastive_ratio(oracle(), minibatches=MINIBATCHES, num_matvecs=directions)
        assert found.value < values[-1], f"{found.value} of {directions} directions is not below {values[-1]}"
        assert not found.converged, str(found)
        assert found.bracket is not None, str(found)
        assert any("the value is a lower bound" in note for note in found.notes), found.notes
        values.append(found.value)


def test_interpolating_network_is_called_degenerate() -> None:
    """12 examples and 3 classes, but 108 parameters: the projector is the identity on 24 dimensions."""
    x, y = np.random.default_rng(4).normal(size=(12, 4)), np.arange(12) % CLASSES
    model = NetworkOracle(ReluNetwork.initialize((4, 13, CLASSES), seed=0), x, y)
    found = ish.congruent_contrastive_ratio(model, minibatches=MINIBATCHES)
    assert_close(found.value, MINIBATCHES * 24, "the ratio of an interpolating network", 1e-9)
    assert any("can move each output by itself" in note for note in found.notes), f"notes {found.notes}"


def test_equal_minibatches_have_the_rank_as_their_value() -> None:
    x, y = np.random.default_rng(5).normal(size=(1, 4)), np.zeros(1, dtype=int)
    model = NetworkOracle(oracle().network, np.repeat(x, 12, axis=0), np.repeat(y, 12))
    assert_close(value(model), CLASSES - 1, "the ratio of equal minibatches", 1e-9)


def test_network_without_curvature_has_the_value_zero() -> None:
    """All weights are zero: no weight moves the output by itself."""
    network = ReluNetwork([np.zeros((2, 3)), np.zeros((1, 2))], None)
    found = ish.congruent_contrastive_ratio(NetworkOracle(network, np.ones((8, 3)), np.zeros((8, 1)), "mse"))
    assert found.value == 0, str(found)
    assert found.notes == ("no minibatch has any curvature",), found.notes


@pytest.mark.parametrize(("minibatches", "message"), [(2, "need at least 3"), (41, "there are only 40 examples")])
def test_wrong_numbers_of_minibatches_are_refused(minibatches: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ish.congruent_contrastive_ratio(oracle(), minibatches=minibatches)


def test_directions_beyond_the_memory_limit_are_refused() -> None:
    with ish.memory_limit(10_000), pytest.raises(ValueError, match="holds 43 vectors of 344 bytes"):
        ish.congruent_contrastive_ratio(oracle())


def test_oracle_without_gauss_newton_products_is_told_what_is_missing() -> None:
    bare = FunctionOracle({"w": np.ones(3)}, lambda _: 0.0, lambda p: p, lambda _, v: v)
    with pytest.raises(MissingCapabilityError, match="gauss_newton_vector_product"):
        ish.congruent_contrastive_ratio(bare)


def quadratic(*curvatures: float) -> FunctionOracle:
    h = np.array(curvatures)
    return FunctionOracle(
        {"w": np.ones(len(h))},
        loss=lambda p: float(h @ p["w"] ** 2) / 2,
        gradient=lambda p: {"w": h * p["w"]},
        hessian_vector_product=lambda _p, v: {"w": h * v["w"]},
    )


@pytest.mark.parametrize(("smallest", "clear"), [(1e-12, True), (2e-15, False)])
def test_rank_that_rounding_decides_is_called_unclear(smallest: float, clear: bool) -> None:
    found = compressions([quadratic(1.0, smallest), quadratic(2.0, smallest)], probes=2, seed=0)
    assert found.is_clear == clear, f"rank {found.rank} with eigenvalues 1.5 and {smallest}"
