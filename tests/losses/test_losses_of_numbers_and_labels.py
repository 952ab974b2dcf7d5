"""Losses with options: derivatives against differences of values, roots and factors against Hessians."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    KullbackLeibler,
    MultiMargin,
    NegativeLogLikelihood,
    NextTokenCrossEntropy,
    NormalizedCrossEntropy,
    Poisson,
    PositionLoss,
    SquaredError,
)

N, K = 7, 4
RANDOM = np.random.default_rng(0)
Z, NUMBERS = 2 * RANDOM.normal(size=(N, K)), RANDOM.normal(size=(N, K))
LABELS = np.array([0, 1, 2, 3, -100, 1, 0])
CLASSES, MASSES, COUNTS = LABELS % 4, RANDOM.random((N, K)), np.arange(N * K).reshape(N, K) % 5
WEIGHTS = (0.5, 2.0, 0.25, 1.0)
LOSSES: dict[str, tuple[Any, Any, Any]] = {
    "smooth": (CrossEntropy(label_smoothing=0.2), Z, LABELS),
    "smooth, weighted": (CrossEntropy(WEIGHTS, label_smoothing=0.2), Z, LABELS),
    "smooth, weighted, by row": (CrossEntropy(WEIGHTS, label_smoothing=0.2, divisor="rows"), Z, LABELS),
    "masses": (CrossEntropy(WEIGHTS, label_smoothing=0.2), Z, MASSES),
    "one-hot of integers": (CrossEntropy(), Z, np.eye(K, dtype=int)[CLASSES]),
    "normalized, of masses": (NormalizedCrossEntropy(WEIGHTS), Z, MASSES),
    "binary": (BinaryCrossEntropy(), Z, MASSES),
    "binary, weighted": (BinaryCrossEntropy(np.array(WEIGHTS), np.array([3.0]), 0.1), Z, MASSES),
    "squared, summed": (SquaredError(reduction="sum", factor=0.5), Z, NUMBERS),
    "absolute": (AbsoluteError(), Z, NUMBERS),
    "huber": (Huber(0.7, 3.0), Z, NUMBERS),
    "poisson": (Poisson(full=True), Z, COUNTS),
    "poisson of rates": (Poisson(log_input=False, reduction="sum"), 1 + np.abs(Z), COUNTS),
    "divergence": (KullbackLeibler(), Z, MASSES),
    "divergence of logarithms": (KullbackLeibler(log_target=True, reduction="sum"), Z, NUMBERS),
    "log-likelihood": (NegativeLogLikelihood(WEIGHTS), Z, LABELS),
    "margin": (MultiMargin(class_weights=WEIGHTS), Z, CLASSES),
    "squared margin": (MultiMargin(2, 0.8, WEIGHTS), Z, CLASSES),
}


@pytest.fixture(params=["numpy", "strict"])
def xp(request: pytest.FixtureRequest) -> Any:
    return {"numpy": array_api_compat.numpy, "strict": array_api_strict}[request.param]


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_are_differences_of_values(xp: Any, name: str) -> None:
    loss, z, targets = LOSSES[name]
    y, step = xp.asarray(targets), 2.0**-17

    def at(function: Any, outputs: Any) -> Any:
        return np.asarray(function(xp, xp.asarray(outputs), y))

    loss.check(xp, xp.asarray(z), y)
    for values, derivative in ((loss.values, loss.gradient), (loss.gradient, loss.hessian)):
        slopes = [(at(values, z + step * unit) - at(values, z - step * unit)) / (2 * step) for unit in np.eye(K)]
        error = np.abs(at(derivative, z) - np.stack(slopes, axis=-1)).max()
        assert error <= 1e-8, f"{derivative.__name__} of {name} is off by {error:.1e}"


@pytest.mark.parametrize("name", LOSSES)
def test_factors_and_roots_multiply_to_the_hessian(xp: Any, name: str) -> None:
    loss, z, y = (LOSSES[name][0], *map(xp.asarray, LOSSES[name][1:]))
    hessian = np.asarray(loss.hessian(xp, z, y))
    signs, vectors = map(np.asarray, loss.hessian_factors(xp, z, y))
    np.testing.assert_allclose(np.einsum("nr,nkr,nlr->nkl", signs, vectors, vectors), hessian, atol=1e-13)
    if not isinstance(loss, NormalizedCrossEntropy):
        units = [xp.asarray(np.broadcast_to(unit, z.shape).copy()) for unit in np.eye(K)]
        root = np.stack([np.asarray(loss.hessian_root_product(xp, z, y, u)) for u in units], axis=2)
        np.testing.assert_allclose(root @ root.transpose(0, 2, 1), hessian, atol=1e-13)


def test_a_label_is_its_one_hot_row(xp: Any) -> None:
    for loss in (CrossEntropy(), CrossEntropy(label_smoothing=0.3), NormalizedCrossEntropy()):
        rows = [xp.asarray(CLASSES), xp.asarray(np.eye(K)[CLASSES])]
        values = [np.asarray(loss.values(xp, xp.asarray(Z), row)) for row in rows]
        np.testing.assert_allclose(*values, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_of_binary_cross_entropy_are_their_differences(xp: Any, dtype: str) -> None:
    z = xp.asarray([[1e4, -1e4, 0.0]], dtype=getattr(xp, dtype))
    for targets, expected in (([[1, 1, 1]], 1e4), ([[0, 0, 0]], 1e4)):
        loss = BinaryCrossEntropy(reduction="sum")
        y = xp.asarray(targets)
        np.testing.assert_allclose(np.asarray(loss.values(xp, z, y)), expected + np.log(2), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(loss.hessian(xp, z, y))[0], np.diag([0, 0, 0.25]), atol=1e-7)


SOFTMAX = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 2, 3, N])
@pytest.mark.parametrize("loss", [CrossEntropy(), NormalizedCrossEntropy()], ids=lambda loss: loss.name)
def test_probabilities_are_refused_as_outputs(xp: Any, loss: Any, rows: int) -> None:
    with pytest.raises(LossError, match=r"outputs are probabilities.*without its last softmax"):
        loss.check(xp, xp.asarray(SOFTMAX[:rows]), xp.asarray(CLASSES[:rows]))
    loss.check(xp, xp.asarray(np.log(SOFTMAX[:rows])), xp.asarray(CLASSES[:rows]))


def test_logits_that_happen_to_have_the_sum_one_are_none(xp: Any) -> None:
    """Of 20,000 batches of one example with two outputs between 0 and 1, about 20 have a sum within 0.001 of 1."""
    z = np.random.default_rng(1).random((20_000, 2))
    close = z[np.abs(z.sum(axis=1) - 1) < 1e-3]
    assert len(close) > 5
    for row in close:
        CrossEntropy().check(xp, xp.asarray(row[None]), xp.asarray([0]))


TOKENS = np.arange(12).reshape(3, 4) % 5


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_next_token_cross_entropy_is_that_of_shifted_labels(xp: Any, dtype: str) -> None:
    z, y = RANDOM.normal(size=(3, 4, 5)), xp.asarray(TOKENS, dtype=getattr(xp, dtype))
    loss = PositionLoss(NextTokenCrossEntropy())
    loss.check_rows(xp, xp.asarray(z), y)
    values, weights = (np.asarray(f(xp, xp.asarray(z), y)) for f in (loss.row_values, loss.row_weights))
    rows = np.log(np.exp(z[:, :-1]).sum(axis=2)) - np.take_along_axis(z[:, :-1], TOKENS[:, 1:, None], axis=2)[..., 0]
    assert weights.sum() == 9
    assert (values * weights).sum() == pytest.approx(rows.sum(), rel=1e-13)


@pytest.mark.parametrize("shapes", [((3, 4, 5), (3, 3)), ((3, 1, 5), (3, 1)), ((3, 5), (3,)), ((3, 4, 5), (3, 4, 5))])
def test_next_token_cross_entropy_of_other_shapes_is_refused(xp: Any, shapes: Any) -> None:
    with pytest.raises(LossError, match=r"outputs of shape \(n, T, K\) and labels of shape \(n, T\)"):
        PositionLoss(NextTokenCrossEntropy()).check_rows(xp, xp.zeros(shapes[0]), xp.zeros(shapes[1], dtype=xp.int64))


@pytest.mark.parametrize("weight", [np.ones((N, 1)), np.ones(N), np.ones((1, 2, K)), np.array([1.0, -1.0, 1.0, 1.0])])
def test_weights_that_are_not_those_of_outputs_are_refused(xp: Any, weight: Any) -> None:
    with pytest.raises(LossError, match=r"^weight has"):
        BinaryCrossEntropy(weight).check(xp, xp.asarray(Z), xp.asarray(MASSES))


@pytest.mark.parametrize("weight", [np.ones(()), np.ones(1), np.ones(K), np.ones((1, K))])
def test_weights_of_outputs_are_taken(xp: Any, weight: Any) -> None:
    loss = BinaryCrossEntropy(weight)
    loss.check(xp, xp.asarray(Z), xp.asarray(MASSES))
    expected = BinaryCrossEntropy().values(xp, xp.asarray(Z), xp.asarray(MASSES))
    np.testing.assert_allclose(np.asarray(loss.values(xp, xp.asarray(Z), xp.asarray(MASSES))), np.asarray(expected))


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_smoothing_that_is_no_probability_is_refused(xp: Any, smoothing: float) -> None:
    for targets in (CLASSES, MASSES):
        with pytest.raises(LossError, match="it is a probability, from 0 to 1"):
            CrossEntropy(label_smoothing=smoothing).check(xp, xp.asarray(Z), xp.asarray(targets))


@pytest.mark.parametrize(
    ("loss", "targets"),
    [(CrossEntropy(), -MASSES), (BinaryCrossEntropy(), -MASSES), (Poisson(), -MASSES), (KullbackLeibler(), -MASSES)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_targets_with_which_a_loss_is_not_convex_are_refused(xp: Any, loss: Any, targets: Any) -> None:
    with pytest.raises(DataError):
        loss.check(xp, xp.asarray(Z), xp.asarray(targets))
