"""The residual part of the diagonal, layer by layer, against dense Hessians in float64."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal, HessianDiagonal
from invariant_sharpness.protocol import ResidualDiagonalOracle, capability
from zoo.jax_networks import cross_entropy, dense_hessian, dense_jacobian
from zoo.jax_smooth_networks import CASES, Case, chain, of_dense

QUICK = frozenset({"gelu"})
ALL = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in CASES]


def oracle_of(case: Case, **options: Any) -> Any:
    parameters, x, y = case.problem()
    oracle = capability(ish.oracle(case.apply, (x, y), parameters=parameters, **options), ResidualDiagonalOracle)
    assert oracle is not None
    return oracle


def by_name(parameters: Any, vector: Any) -> dict[str, Any]:
    """A vector in the order of the leaves, cut into arrays."""
    names = sorted(parameters)
    ends = np.cumsum([parameters[name].size for name in names])
    return {n: v.reshape(parameters[n].shape) for n, v in zip(names, np.split(vector, ends[:-1]), strict=True)}


def residual_of(case: Case) -> dict[str, Any]:
    """The diagonal of H - G: of G by the Jacobians of the outputs."""
    parameters, x, y = case.problem()
    hessian = dense_hessian(case.apply, parameters, x, y, cross_entropy)
    jacobian = dense_jacobian(case.apply, parameters, x)
    p = np.asarray(jax.nn.softmax(case.apply(parameters, x)))
    curvature = np.eye(3) * p[:, None] - p[:, :, None] * p[:, None]
    gauss_newton = np.einsum("nki,nkl,nli->i", jacobian, curvature, jacobian) / len(x)
    return by_name(parameters, np.diag(hessian) - gauss_newton)


@pytest.mark.parametrize("kind", ALL)
def test_unit_vectors_give_the_residual_diagonal(kind: str) -> None:
    case = CASES[kind]
    oracle = oracle_of(case)
    units = oracle.layer_units(oracle.parameters)
    assert case.shapes.keys() - units.keys() == case.outside, sorted(units)
    found, expected = oracle.residual_diagonal(oracle.parameters, units), residual_of(case)
    for name in units:
        error = np.abs(np.asarray(found[name]) - expected[name]).max()
        assert error <= 1e-13, f"{name} is off by {error:.1e}: {found[name]} instead of {expected[name]}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_draws_are_unbiased(kind: str) -> None:
    oracle, draws = oracle_of(CASES[kind]), 200
    units = oracle.layer_units(oracle.parameters)
    samples = [
        oracle.to_numpy(oracle.sampled_residual_diagonal(oracle.parameters, units, range(number, number + 1), 0))
        for number in range(draws)
    ]
    expected = oracle.to_numpy(oracle.residual_diagonal(oracle.parameters, units))
    for name in units:
        stacked = np.stack([sample[name] for sample in samples])
        errors = stacked.std(0) / draws**0.5 + 1e-12
        largest = np.abs((stacked.mean(0) - expected[name]) / errors).max()
        assert largest <= 5, f"the mean of {name} is off by {largest:.1f} standard errors"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gelu", "convolution", "decoder"])
def test_a_draw_is_the_same_in_batches_of_any_size(kind: str) -> None:
    draws = []
    for size in (1, 3, 6):
        oracle = oracle_of(CASES[kind], batch_size=size)
        units = oracle.layer_units(oracle.parameters)
        draws.append(oracle.to_numpy(oracle.sampled_residual_diagonal(oracle.parameters, units, range(2), 5)))
    largest = max(np.abs(array).max() for array in draws[-1].values())
    for name in units:
        errors = [np.abs(draw[name] - draws[-1][name]).max() for draw in draws]
        assert max(errors) <= 1e-13 * largest, f"{name} moves by {errors}, where the largest entry is {largest}"


def gated(p: Any, x: Any) -> Any:
    """Two layers whose outputs are multiplied, and mixed by a smooth function: rescaling the one moves no other output."""
    x = x @ p["first"] + p["first_bias"]
    x = jax.nn.silu(x @ p["gate"]) * (x @ p["up"] + p["up_bias"])
    return jax.nn.gelu(x @ p["down"]) @ p["head"]


@pytest.mark.slow
def test_a_draw_moves_with_a_rescaling_bit_by_bit() -> None:
    random = np.random.default_rng(0)
    shapes = {"first": (5, 8), "first_bias": (8,), "gate": (8, 7), "up": (8, 7), "up_bias": (7,), "down": (7, 6)}
    parameters = {name: random.normal(size=shape) / 2 for name, shape in {**shapes, "head": (6, 3)}.items()}
    x, y = random.normal(size=(12, 5)), random.integers(0, 3, 12)
    factors = 2.0 ** np.array([3, -5, 0, 9, -2, 1, 7])
    moved = {"up": factors, "up_bias": factors, "down": 1 / factors[:, None]}
    scaled = {name: array * moved.get(name, 1.0) for name, array in parameters.items()}
    before, after = (
        ish.hessian_diagonal(ish.oracle(gated, (x, y), parameters=p), probes=4) for p in (parameters, scaled)
    )
    for name, group in before.groups.items():
        found = after[name].values * moved.get(name, 1.0) ** 2
        assert np.array_equal(found, group.values), f"{name} ({group.method}) moved otherwise"
    assert before["up"].method == before["gate"].method == "layer draws"


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("gelu", [["first", "first_bias"], ["head", "head_bias"], ["second", "second_bias"]]),
        ("looked at before the bias", [["first", "first_bias"], ["second"], ["second_bias"]]),
    ],
)
def test_what_is_added_to_the_outputs_of_a_layer_belongs_to_it(kind: str, layers: list[list[str]]) -> None:
    """Biases cost no pass of their own, unless the outputs are used without them as well."""
    _, x, y = CASES[kind].problem()
    engine = oracle_of(CASES[kind]).engine
    with engine.at(engine.parameters()) as point:
        found = sorted(sorted(layer) for layer in point.layers(engine.batch((x, y))).values())
    assert found == layers


@pytest.mark.slow
def test_normalized_sharpness_early_in_training_is_in_a_narrow_interval_that_probes_are_far_from() -> None:
    shapes = of_dense(16, 24, "first") | of_dense(24, 24, "second") | of_dense(24, 3, "head")
    case = Case(partial(chain, jax.nn.gelu), shapes, (16,))
    parameters, x, y = case.problem(64)
    slope = jax.jit(jax.grad(lambda p: jnp.mean(cross_entropy(case.apply(p, x), y))))
    for _ in range(30):
        parameters = jax.tree.map(lambda value, step: value - 0.1 * step, parameters, slope(parameters))
    oracle = ish.oracle(case.apply, (x, y), parameters=parameters)
    exact = by_name(parameters, np.diag(dense_hessian(case.apply, parameters, x, y, cross_entropy)))
    diagonal = HessianDiagonal({name: GroupDiagonal(values, "exact") for name, values in exact.items()})
    truth = ish.normalized_sharpness(oracle, diagonal=diagonal).value
    drawn = ish.normalized_sharpness(oracle, probes=16, seed=0)
    probed = ish.normalized_sharpness(without_layers(oracle), probes=16, seed=0)
    low, high = drawn.interval()
    assert low <= truth <= high <= 1.05 * low, f"{truth:.4f} is the truth; {drawn} by draws in {low:.4f} to {high:.4f}"
    errors = [abs(estimate.value - truth) for estimate in (drawn, probed)]
    assert errors[1] > 5 * errors[0], f"{truth:.4f} is the truth; {drawn} by draws, {probed} by probes"


def without_layers(oracle: Any) -> Any:
    """The same oracle with an engine that cannot tell its layers apart."""
    engine = copy(oracle.engine)
    engine.offers = engine.offers - {ResidualDiagonalOracle}
    return oracle.with_engine(engine)
