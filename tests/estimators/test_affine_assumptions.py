"""What the affine test cannot have seen on a few examples is looked for on all of them, and never called exact.

References are blocks of dense Hessians in float64, by ``torch.func.hessian``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo import unseen_networks as zoo

EXACT = ("exact", "exact (columns)", "exact (units)")


@cache
def dense(kind: str) -> dict[str, np.ndarray]:
    case = zoo.small_curvature(kind) if kind in zoo.SMALL_CURVATURES else zoo.CASES[kind]()
    return zoo.torch_diagonal(case)


def check_honest(found: HessianDiagonal, kind: str, curved: frozenset[str], tolerance: float) -> None:
    """What is called exact is, what is sampled has an error that explains the difference, and curved groups are not exact."""
    for name, true in dense(kind).items():
        group, size = found[name], max(float(np.abs(true).max()), 1e-300)
        if group.method in EXACT:
            off = float(np.abs(group.values - true).max()) / size
            assert off <= tolerance, f"{name} is off by {off:.2g} of its largest entry, and called {group.method}"
        else:
            off, error = abs(float((group.values - true).sum())), found.standard_error({name: np.ones_like(true)})
            assert error is not None
            assert off <= 6 * error + tolerance * size, (
                f"{name}: the sum is off by {off:.2g}, its standard error is {error:.2g}"
            )
    methods = {name: found[name].method for name in dense(kind)}
    assert not [name for name in curved if methods[name] == "exact"], f"{curved} are curved: {methods}"
    refused = [name for name in methods.keys() - curved if methods[name] not in EXACT]
    assert not refused, f"{refused} are affine, and were sampled: {methods}"


@pytest.mark.parametrize("kind", zoo.CASES)
def test_no_group_is_exact_that_few_examples_show_to_be_curved(kind: str) -> None:
    case = zoo.CASES[kind]()
    check_honest(ish.hessian_diagonal(zoo.torch_oracle(case)), kind, case.curved, 1e-9)


@pytest.mark.parametrize("kind", ["experts in one parameter", "sequences sorted by length", "sorted inputs"])
def test_streams_are_read_for_it(kind: str) -> None:
    case = zoo.CASES[kind]()
    check_honest(ish.hessian_diagonal(zoo.torch_oracle(case, stream=True)), kind, case.curved, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.CASES)
def test_the_same_in_jax(kind: str) -> None:
    case = zoo.CASES[kind]()
    check_honest(ish.hessian_diagonal(zoo.jax_oracle(case)), kind, case.curved, 1e-9)


@pytest.mark.parametrize("kind", zoo.SMALL_CURVATURES)
def test_curvature_below_the_threshold_is_held_against_the_diagonal(kind: str) -> None:
    case = zoo.small_curvature(kind)
    found = ish.hessian_diagonal(zoo.torch_oracle(case), probes=64)
    assert found["in"].method != "exact", f"defect {found.defects['in']}, true {dense(kind)['in'].sum():.3g}"
    check_honest(found, kind, case.curved, 1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.SMALL_CURVATURES)
def test_curvature_below_the_threshold_in_jax(kind: str) -> None:
    case = zoo.small_curvature(kind)
    check_honest(ish.hessian_diagonal(zoo.jax_oracle(case)), kind, case.curved, 1e-2)


@pytest.mark.parametrize("shift", [-1.0, -2.0, -3.0])
def test_rarely_active_units_stay_exact(shift: float) -> None:
    """Units that are off on nearly all examples are met at mirrored points, and at the last on all data."""
    random = np.random.default_rng(0)
    network = ReluNetwork(
        (random.normal(size=(40, 6)), random.normal(size=(3, 40))),
        (np.full(40, shift * 6**0.5), np.zeros(3)),
    )
    oracle = NetworkOracle(network, random.normal(size=(500, 6)), random.integers(0, 3, 500))
    found = ish.hessian_diagonal(oracle)
    assert {group.method for group in found.groups.values()} == {"exact"}, found.defects


def test_a_group_that_nothing_reaches_is_named_and_contributes_nothing() -> None:
    case = zoo.sorted_inputs()
    parameters = {**case.parameters, "unused": np.ones((3, 4))}
    found = ish.normalized_sharpness(zoo.torch_oracle(case._replace(parameters=parameters)))
    assert found.per_group["unused"].value == 0
    assert any("no curvature at all" in note and "unused" in note for note in found.notes), found.notes
