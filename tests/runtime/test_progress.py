"""What those who watch are told of passes over the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import invariant_sharpness as ish
from invariant_sharpness.runtime.progress import listening, track

torch = pytest.importorskip("torch")

Report = tuple[str, int, int, float]
BATCHES, SIZE = 3, 4


def batches() -> list[tuple[Any, Any]]:
    return [(torch.randn(SIZE, 5), torch.arange(SIZE) % 2) for _ in range(BATCHES)]


def heard(function: Callable[[], object]) -> list[Report]:
    reports: list[Report] = []
    with listening(lambda *report: reports.append(report)):
        function()
    return reports


def oracle() -> Any:
    return ish.oracle(torch.nn.Linear(5, 2), batches())


def test_building_an_oracle_reports_each_batch() -> None:
    found = heard(oracle)
    assert found == [("looking at the data", done, BATCHES, 0.0) for done in range(BATCHES + 1)]


@pytest.mark.parametrize(
    ("label", "cost", "method"),
    [
        ("exact diagonal", 2.0, lambda o: o.gauss_newton_diagonal(o.parameters, frozenset(o.parameters.arrays))),
        ("squared gradients", 1.5, lambda o: o.gradient_second_moment(o.parameters)),
    ],
)
def test_a_pass_of_squares_reports_examples_and_their_cost(label: str, cost: float, method: Any) -> None:
    measured, examples = oracle(), BATCHES * SIZE
    found = heard(lambda: method(measured))
    assert found == [(label, done, examples, cost / examples) for done in range(0, examples + 1, SIZE)]


def test_a_total_that_is_not_known_is_what_is_done() -> None:
    found = heard(lambda: list(track(range(2), "reading", 0)))
    assert found == [("reading", 0, 0, 0.0), ("reading", 1, 1, 0.0), ("reading", 2, 2, 0.0)]
