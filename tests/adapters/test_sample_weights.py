"""Weights of single examples: every form in which an engine asks for a loss, against the loss without them."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy as xp
import numpy as np
import pytest

from invariant_sharpness.adapters.data import WeightedTargets
from invariant_sharpness.adapters.loss_terms import RowTerms
from invariant_sharpness.adapters.sample_weights import SampleWeighted
from invariant_sharpness.errors import DataError
from invariant_sharpness.losses import CrossEntropy, PositionLoss, SquaredError

N, T, K = 3, 4, 5
RANDOM = np.random.default_rng(0)
OUTPUTS, LABELS, NUMBERS = RANDOM.normal(size=(N, T, K)), RANDOM.integers(0, K, (N, T)), RANDOM.normal(size=(N, T, K))
OF_EXAMPLES, OF_POSITIONS = RANDOM.random(N), RANDOM.random((N, T))
CASES = {
    "labels, by example": (CrossEntropy((1.0, 2.0, 3.0, 0.0, 1.0)), LABELS, OF_EXAMPLES),
    "labels, by column": (CrossEntropy(), LABELS, OF_EXAMPLES[:, None]),
    "labels, by position": (CrossEntropy(label_smoothing=0.1), LABELS, OF_POSITIONS),
    "numbers": (SquaredError(), NUMBERS, OF_EXAMPLES),
}


@pytest.mark.parametrize("what", CASES)
def test_terms_are_those_of_the_loss_times_the_weights(what: str) -> None:
    loss, targets, weights = CASES[what]
    plain = RowTerms(PositionLoss(loss), xp)
    weighted, given = SampleWeighted(plain, xp), WeightedTargets(targets, weights)
    weighted.check(OUTPUTS, given)
    rows, width = weighted.row_shape(OUTPUTS, given)
    spread = np.broadcast_to(weights.reshape(N, -1), (N, rows // N))

    def squares(terms: Any, factors: Any) -> Any:
        """With a Jacobian of ones for every output of an example."""
        return sum(s * v.reshape(N, -1).sum(axis=1) ** 2 for s, v in terms.terms(factors, OUTPUTS))

    values, divisors = weighted.values(OUTPUTS, given)
    expected, same = plain.values(OUTPUTS, targets)
    np.testing.assert_allclose(values, expected * spread.ravel())
    np.testing.assert_array_equal(divisors, same)
    for name, power in (("gradient_factors", 2), ("curvature_factors", 1)):
        found, without = getattr(weighted, name)(OUTPUTS, given), getattr(plain, name)(OUTPUTS, targets)
        scaled = without._replace(signs=without.signs * spread[:, :, None] ** power)
        np.testing.assert_allclose(squares(weighted, found), squares(plain, scaled))
    signs = np.where(RANDOM.random((rows, width)) > 0.5, 1.0, -1.0)
    sampled, without = (t.sampled_cotangents(OUTPUTS, y, signs) for t, y in ((weighted, given), (plain, targets)))
    np.testing.assert_allclose(sampled, without * np.sqrt(spread.reshape(N, -1, 1)))


@pytest.mark.parametrize("weights", [np.ones(N + 1), np.ones((N, 2)), -OF_EXAMPLES])
def test_wrong_weights_are_named(weights: Any) -> None:
    with pytest.raises(DataError, match="sample weights"):
        SampleWeighted(RowTerms(PositionLoss(CrossEntropy()), xp), xp).check(OUTPUTS, WeightedTargets(LABELS, weights))
