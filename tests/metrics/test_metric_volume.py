"""Volumes of flat regions and the whole spectrum: what Dinh et al. (2017) do to them, and what stays."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.coordinates.scales import balanced
from invariant_sharpness.metrics.volume import ellipsoid_log_volume
from invariant_sharpness.symmetries import chain_rescalings
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo.vectors import hessian_by_columns

SIZES = (4, 6, 5, 3)


def oracle() -> NetworkOracle:
    rng = np.random.default_rng(0)
    network = ReluNetwork([rng.normal(size=(n, m)) for m, n in pairwise(SIZES)], None)
    return NetworkOracle(network, rng.normal(size=(40, 4)), rng.integers(3, size=40))


def layers_scaled(model: NetworkOracle, factors: list[float]) -> ish.Moved:
    arrays = model.to_numpy(model.parameters)
    scaled = {group.name: factor * arrays[group.name] for group, factor in zip(model.groups, factors, strict=True)}
    return ish.Moved(model, model.from_numpy(scaled))


def units_scaled(model: NetworkOracle) -> ish.Moved:
    rng, parameters = np.random.default_rng(1), model.parameters
    for rescaling, width in zip(chain_rescalings(model.groups), SIZES[1:-1], strict=True):
        parameters = rescaling.apply(model, parameters, np.ldexp(1.0, rng.integers(-9, 10, size=width)))
    return ish.Moved(model, parameters)


def test_volume_is_that_of_the_dense_hessian_in_balanced_coordinates() -> None:
    model = oracle()
    s = np.concatenate([a.ravel() for a in model.to_numpy(balanced(model)).values()])
    eigenvalues = np.linalg.eigvalsh(s[:, None] * hessian_by_columns(model) * s)
    expected = -np.log1p(np.maximum(eigenvalues, 0)).sum() / 2
    found = ish.flatness_volume(model, probes=60)
    low, high = found.interval(0.999)
    assert low <= expected <= high, f"{found}, but the dense value is {expected}"
    assert high - low < 0.5 * abs(expected), f"an interval from {low} to {high} tells nothing about {expected}"


def test_volume_survives_row_and_column_rescaling_draw_by_draw() -> None:
    model = oracle()
    before, after = (ish.flatness_volume(o).value for o in (model, units_scaled(model)))
    assert abs(after / before - 1) <= 1e-9, f"the volume moved from {before} to {after}"


def test_volume_of_a_known_spectrum_is_its_closed_form() -> None:
    """Weights of one and a diagonal Hessian, in one group without rows: the balanced scale is one."""
    values = np.array([-2.0, 0.0, 1.0, 3.0, 7.0])
    model = FunctionOracle({"w": np.ones(5)}, lambda _: 0.0, lambda p: p, lambda _, v: {"w": values * v["w"]})
    expected = -np.log([1, 1, 1.5, 2.5, 4.5]).sum() / 2
    found = ish.flatness_volume(model, tau=2.0, steps=5).value
    assert abs(found - expected) <= 1e-10, f"{found} instead of {expected}"


@pytest.mark.parametrize("tau", [0.0, -1.0, float("inf"), float("nan")])
def test_width_that_is_none_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"a precision is positive and finite|tau=nan, but tau is a number"):
        ish.flatness_volume(oracle(), tau=tau)


def test_flat_box_grows_without_bound() -> None:
    """Dinh et al.: layer rescaling carries a box of low loss onto one whose volume is larger by a power of the factor."""
    model, rng = oracle(), np.random.default_rng(2)
    sizes, radius = [group.size for group in model.groups], 1e-3
    log_volumes = []
    for factor in (1.0, 2.0**10, 2.0**20):
        factors = [factor, 1.0, 1 / factor]
        corners = [rng.choice([-radius, radius], size=group.shape) for group in model.groups]
        here = {g.name: a + c for (g, a), c in zip(_weights(model), corners, strict=True)}
        there = {g.name: f * here[g.name] for g, f in zip(model.groups, factors, strict=True)}
        before, after = (model.loss(model.from_numpy(arrays)) for arrays in (here, there))
        assert before == after, f"the loss of a corner moved from {before} to {after}"
        log_volumes.append(sum(n * np.log(2 * radius * f) for n, f in zip(sizes, factors, strict=True)))
    growth = np.diff(log_volumes)
    assert np.allclose(growth, (sizes[0] - sizes[2]) * np.log(2.0**10)), f"log-volumes {log_volumes}"
    assert growth.min() > 0


def _weights(model: NetworkOracle) -> list[tuple[ish.ParameterGroup, Any]]:
    arrays = model.to_numpy(model.parameters)
    return [(group, arrays[group.name]) for group in model.groups]


def test_ellipsoid_is_a_ball_for_the_identity() -> None:
    found, epsilon = ellipsoid_log_volume(np.ones(3), 0.5), 0.5
    assert abs(found - np.log(4 / 3 * np.pi * (2 * epsilon) ** 1.5)) <= 1e-14, f"log-volume {found}"


def test_ellipsoid_of_a_flat_direction_is_infinite() -> None:
    assert ellipsoid_log_volume(np.array([1.0, 0.0]), 0.1) == float("inf")


def test_ellipsoid_grows_by_the_determinant_of_a_linear_map() -> None:
    A = np.random.default_rng(3).normal(size=(4, 4))
    H, D = A @ A.T, np.diag([2.0, 3.0, 0.5, 10.0])
    moved = np.linalg.inv(D) @ H @ np.linalg.inv(D)
    growth = ellipsoid_log_volume(np.linalg.eigvalsh(moved), 0.1) - ellipsoid_log_volume(np.linalg.eigvalsh(H), 0.1)
    assert abs(growth - np.log(30)) <= 1e-10, f"growth {growth} instead of ln 30"


def test_spectrum_knows_the_largest_eigenvalues() -> None:
    model = oracle()
    expected = np.sort(np.linalg.eigvalsh(hessian_by_columns(model)))[::-1][:10]
    found = np.sort(ish.hessian_spectrum(model).known)[::-1]
    assert np.allclose(found, expected, rtol=1e-5), f"{found} instead of {expected}"


@pytest.mark.parametrize("target", [1e3, 1e6])
def test_any_number_of_eigenvalues_becomes_larger_than_any_bound(target: float) -> None:
    """Dinh et al.: ``alpha_k = 1 / beta`` for all layers but the last, which takes ``beta**(K - 1)``."""
    model = oracle()
    before = np.linalg.eigvalsh(hessian_by_columns(model))
    positive = before[before > 1e-9 * before[-1]]
    beta = 2.0 ** np.ceil(np.log2(np.sqrt(target / positive[0])) + 1)
    after = np.linalg.eigvalsh(hessian_by_columns(layers_scaled(model, [1 / beta, 1 / beta, beta**2])))
    large, least = int((after > target).sum()), len(positive) - model.groups[-1].size
    assert large >= least > 0, f"{large} eigenvalues are larger than {target}, but the theorem says at least {least}"


@pytest.mark.slow
def test_spectrum_in_balanced_coordinates_survives() -> None:
    model = oracle()
    there = units_scaled(model)
    before, after = (ish.hessian_spectrum(ish.Scaled(o, balanced(o))).known for o in (model, there))
    assert np.allclose(before, after, rtol=1e-8), f"{before} and {after}"
