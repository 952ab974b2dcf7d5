"""Losses at every position of outputs with more axes, against the same losses of rows."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import CrossEntropy, OutputLoss, PositionLoss, SquaredError

N, T, K, P = 3, 4, 5, 6
RANDOM = np.random.default_rng(0)
OUTPUTS, LABELS = RANDOM.normal(size=(N, T, K)), RANDOM.integers(0, K, size=(N, T))
JACOBIAN = RANDOM.normal(size=(N, T, K, P))
WEIGHTED = CrossEntropy(class_weights=(0.5, 2.0, 0.0, 1.0, 3.0))


def moved(outputs: Any, class_axis: int) -> Any:
    return np.moveaxis(outputs, 2, class_axis)


@pytest.mark.parametrize("class_axis", [1, -1])
def test_every_position_is_a_row(class_axis: int) -> None:
    loss, outputs = PositionLoss(WEIGHTED, class_axis), moved(OUTPUTS, class_axis)
    rows, labels = OUTPUTS.reshape(N * T, K), LABELS.reshape(N * T)
    for found, expected in (
        (loss.row_values(xp, outputs, LABELS), WEIGHTED.values(xp, rows, labels)),
        (loss.row_weights(xp, outputs, LABELS), WEIGHTED.weights(xp, rows, labels)),
    ):
        assert np.array_equal(found, expected), f"{found} instead of {expected}"


@pytest.mark.parametrize(
    ("loss", "targets", "blocks", "class_axis"),
    [(WEIGHTED, LABELS, T, -1), (WEIGHTED, LABELS, T, 1), (SquaredError(), RANDOM.normal(size=(N, T, K)), 1, -1)],
)
def test_terms_add_up_to_the_gauss_newton_diagonal(
    loss: OutputLoss, targets: Any, blocks: int, class_axis: int
) -> None:
    """Of outputs with a known Jacobian; the reference is the dense product with the output Hessian of each block."""
    positions, outputs = PositionLoss(loss, class_axis), moved(OUTPUTS, class_axis)
    found = np.zeros(P)
    for signs, cotangents in positions.terms(xp, positions.curvature_rows(xp, outputs, targets), outputs):
        products = np.einsum("ntk,ntkp->np", np.moveaxis(cotangents, class_axis, 2), JACOBIAN)
        found += np.sum(signs[:, None] * products**2, axis=0)
    rows, labels = positions.rows(xp, outputs, targets)
    hessians = loss.weights(xp, rows, labels)[:, None, None] * loss.hessian(xp, rows, labels)
    jacobians = JACOBIAN.reshape(N * blocks, -1, P)
    expected = np.einsum("mkp,mkl,mlp->p", jacobians, hessians, jacobians)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= 1e-13, f"off by {error:.1e}: {found} instead of {expected}"


@pytest.mark.parametrize("shape", [(N, T), (N, T, 1), (N * T,), (N * T, 1)])
def test_labels_may_be_flat_and_have_axes_of_length_one(shape: tuple[int, ...]) -> None:
    loss = PositionLoss(CrossEntropy())
    loss.check_rows(xp, OUTPUTS, LABELS.reshape(shape))
    found = loss.row_values(xp, OUTPUTS, LABELS.reshape(shape))
    assert np.array_equal(found, loss.row_values(xp, OUTPUTS, LABELS)), f"other losses for labels of shape {shape}"


def test_labels_in_another_order_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(3, 4, 5\) and targets \(4, 3\).*one class label for each row of K outputs"):
        PositionLoss(CrossEntropy()).check_rows(xp, OUTPUTS, LABELS.T)


def test_outputs_without_classes_are_refused() -> None:
    with pytest.raises(LossError, match=r"shape \(3,\), but cross_entropy needs one row of outputs per example"):
        PositionLoss(CrossEntropy()).check_rows(xp, OUTPUTS[:, 0, 0], LABELS[:, 0])


def test_squared_error_of_a_single_target_is_refused() -> None:
    with pytest.raises(DataError, match="squared error needs equal shapes"):
        PositionLoss(SquaredError()).check_rows(xp, OUTPUTS, np.array(1.0))
