"""Rescaling of hidden units by random powers of two."""

from __future__ import annotations

import pytest

from zoo.keras_results import every_engine_deep, found, relative_error

TOLERANCE = 1e-10
"""On single precision, too: powers of two change no digit, and what is left is the solver's own tolerance, in float64."""

INVARIANT = ("normalized_sharpness", "parameter_normalized_sharpness", "fisher_rao_norm")
every_network = pytest.mark.parametrize("kind", ["dense", "conv"])


@every_engine_deep
@every_network
def test_loss_stays_bit_by_bit(engine: str, kind: str) -> None:
    for case in found(engine, "rescaling")[kind]:
        before, after = case["loss"]
        assert before == after, f"the loss moved from {before!r} to {after!r}"


@every_engine_deep
@every_network
@pytest.mark.parametrize("metric", INVARIANT)
def test_normalized_metrics_stay(engine: str, kind: str, metric: str) -> None:
    for case in found(engine, "rescaling")[kind]:
        error = relative_error(case[metric])
        assert error <= TOLERANCE, f"{metric} moved from {case[metric][0]!r} to {case[metric][1]!r} ({error:.1e})"


@every_engine_deep
@every_network
def test_trace_moves_by_its_law(engine: str, kind: str) -> None:
    for case in found(engine, "rescaling")[kind]:
        (before, after), (_, expected) = case["hessian_trace"], case["law"]
        assert relative_error(case["law"]) <= TOLERANCE, f"the trace is {after!r}, by its law {expected!r}"
        assert relative_error([after, before]) > 1e-3, f"the trace hardly moved: from {before!r} to {after!r}"
