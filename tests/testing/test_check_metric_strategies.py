"""Strategies draw what they say, and shrink to an example that reads like a sentence."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import invariant_sharpness as ish
from invariant_sharpness.testing import Problem
from invariant_sharpness.testing.strategies import (
    RescaledNetwork,
    data,
    networks,
    rescaled_networks,
    scales,
    symmetries,
)
from invariant_sharpness_numpy import FunctionOracle
from zoo.invariant_metrics import relative_change
from zoo.own_metrics import adaptive

THOROUGH = settings(max_examples=100, deadline=None, database=None)
"""To find the smallest example takes more than the few of the profile."""


def trace_moves(problem: RescaledNetwork) -> bool:
    before, after = ish.hessian_trace(problem.oracle).value, ish.hessian_trace(problem.moved).value
    return relative_change(before, after) > 1e-6


@pytest.mark.slow
def test_raw_metric_shrinks_to_one_unit_and_a_factor_of_two() -> None:
    smallest = find(rescaled_networks(), trace_moves, settings=THOROUGH)
    assert str(smallest.move) == "layer 0 unit 0 scaled by 2**1", f"{smallest}"


@pytest.mark.slow
def test_failing_property_prints_the_sentence() -> None:
    @THOROUGH
    @given(rescaled_networks())
    def holds(problem: RescaledNetwork) -> None:
        assert not trace_moves(problem)

    with pytest.raises(AssertionError) as caught:
        holds()
    printed = "\n".join(caught.value.__notes__)
    assert "problem=layer 0 unit 0 scaled by 2**1 in a ReLU network of sizes 3-1-3" in printed, printed


@given(rescaled_networks())
def test_rescaled_network_has_the_same_loss_bit_by_bit(problem: RescaledNetwork) -> None:
    before, after = (oracle.loss(oracle.parameters) for oracle in (problem.oracle, problem.moved))
    assert before == after, f"{before!r} and {after!r}"


@given(rescaled_networks())
def test_correct_metric_stays(problem: RescaledNetwork) -> None:
    change = relative_change(adaptive(problem.oracle), adaptive(problem.moved))
    assert change < 1e-12, f"it moved by {change}"


@given(st.data())
def test_drawn_symmetry_leaves_the_outputs_alone(draw: st.DataObject) -> None:
    problem = draw.draw(networks())
    move = draw.draw(symmetries(problem))
    oracle = problem.oracle
    before, after = (oracle.outputs(p, 8) for p in (oracle.parameters, move.apply(oracle.parameters)))
    error = np.abs(after - before).max()
    assert error <= 1e-12 * np.abs(before).max(), f"outputs moved by {error}"


def test_symmetry_shrinks_to_one_generator() -> None:
    problem = find(networks(), lambda one: one.oracle.groups[0].shape[0] == 2, settings=THOROUGH)
    smallest = find(symmetries(problem), lambda _: True, settings=THOROUGH)
    assert re.fullmatch(r"layers\.0\.weight\[\d\] up, layers\.1\.weight\[:, \d\] down, by 2\*\*1", str(smallest)), (
        f"{smallest}"
    )


def test_simplest_scale_is_two_and_the_simplest_data_one_example() -> None:
    assert find(scales(), lambda _: True, settings=THOROUGH) == 2.0
    x, y = find(data(inputs=4), lambda _: True, settings=THOROUGH)
    assert (x.shape, y.shape) == ((1, 4), (1,))


def test_network_without_symmetries_is_refused() -> None:
    oracle = FunctionOracle(
        {"x": np.ones(2)}, lambda p: float(p["x"] @ p["x"]), lambda p: {"x": 2 * p["x"]}, lambda _, v: {"x": 2 * v["x"]}
    )
    with pytest.raises(ValueError, match="the FunctionOracle has no rescaling symmetries"):
        find(symmetries(Problem(oracle)), lambda _: True)


def test_missing_hypothesis_is_named_with_the_command_that_installs_it() -> None:
    program = "import sys; sys.modules['hypothesis'] = None; import invariant_sharpness.testing.strategies"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingDependencyError: invariant_sharpness.testing.strategies needs hypothesis" in run.stderr, run.stderr
    assert "pip install 'invariant-sharpness[testing]'" in run.stderr, run.stderr
