"""The library's own checks of an oracle."""

from __future__ import annotations

from typing import Any

from keras_problems import perceptron_oracle

from invariant_sharpness.testing import check_oracle


def conformance_of_the_perceptron() -> dict[str, list[str]]:
    return outcome(perceptron_oracle())


def outcome(oracle: Any) -> dict[str, list[str]]:
    """The results in words, by their status."""
    results = check_oracle(oracle, on_fail="return")
    return {status: [str(r) for r in results if r.status == status] for status in ("passed", "skipped", "failed")}


CHECKS = [conformance_of_the_perceptron]
