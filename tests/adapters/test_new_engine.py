"""An engine of a new framework, as the documentation writes it: sums over one batch, and nothing else."""

from __future__ import annotations

import runpy
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.testing import check_oracle
from zoo import ROOT

example = runpy.run_path(str(ROOT / "docs" / "examples" / "engine_of_a_new_framework.py"))


@pytest.fixture(scope="module")
def oracle() -> Any:
    return example["oracle"]()


def test_engine_of_thirty_lines_passes_all_checks_of_oracles(oracle: Any) -> None:
    failed = [result for result in check_oracle(oracle) if result.status == "failed"]
    assert not failed, "\n".join(map(str, failed))


def test_loss_is_the_mean_over_batches_of_different_lengths(oracle: Any) -> None:
    """40 examples in batches of 16, 16 and 8, against the mean over all of them at once."""
    p = oracle.to_numpy(oracle.parameters)
    batch = oracle.all_examples()
    expected = np.mean((example["outputs"](p, batch.inputs) - batch.targets) ** 2)
    assert oracle.loss(oracle.parameters) == pytest.approx(expected, rel=1e-14)


def test_metrics_need_no_line_of_the_new_framework(oracle: Any) -> None:
    """The trace against second differences of the loss, parameter by parameter."""
    p, step = oracle.to_numpy(oracle.parameters), 1e-3

    def loss(name: str, place: tuple[int, ...], change: float) -> float:
        moved = {key: array.copy() for key, array in p.items()}
        moved[name][place] += change
        return oracle.loss(oracle.from_numpy(moved))

    here = oracle.loss(oracle.parameters)
    second = [
        (loss(name, place, step) - 2 * here + loss(name, place, -step)) / step**2
        for name, array in p.items()
        for place in np.ndindex(array.shape)
    ]
    found = ish.hessian_trace(oracle).value
    assert found == pytest.approx(sum(second), rel=1e-5), f"{found} and {sum(second)} from differences of the loss"
