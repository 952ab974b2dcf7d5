"""In single precision the function is still the same bit by bit, and metrics to rounding."""

from __future__ import annotations

import pytest
from hypothesis import given

from zoo.invariant_metrics import INVARIANT, relative_change
from zoo.problems import TORCH_KINDS, Problem, problems


@given(problems(kinds=TORCH_KINDS, dtype="float32"))
def test_the_loss_is_bitwise_equal_in_single_precision(problem: Problem) -> None:
    before = problem.oracle.loss(problem.oracle.parameters)
    after = problem.moved.loss(problem.moved.parameters)
    assert before == after, f"{problem}: the loss moved from {before!r} to {after!r}"


@pytest.mark.parametrize("name", INVARIANT)
@given(problem=problems(kinds=TORCH_KINDS, dtype="float32"))
def test_normalized_metrics_do_not_move_in_single_precision(name: str, problem: Problem) -> None:
    before, after = INVARIANT[name](problem.oracle).value, INVARIANT[name](problem.moved).value
    change = relative_change(before, after)
    assert change <= 1e-4, f"{name} moved from {before!r} to {after!r} ({change:.1e}) on {problem}"
