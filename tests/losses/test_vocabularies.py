"""Cross-entropy over a large vocabulary: in chunks of rows, without an array of the outputs' size for each step."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import array_api_compat.numpy as xp
import array_api_strict
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from invariant_sharpness.losses import CrossEntropy, NextTokenCrossEntropy, PositionLoss, chunks

RANDOM = np.random.default_rng(0)
ROWS, WORDS = 7, 5
OUTPUTS, VECTORS = RANDOM.normal(size=(ROWS, WORDS)), RANDOM.normal(size=(ROWS, WORDS))
LABELS = np.array([0, 4, -100, 2, 2, -100, 1])
WEIGHTS = (0.5, 1.0, 2.0, 0.0, 3.0)
LOSSES = {
    "plain": CrossEntropy(),
    "weighted": CrossEntropy(WEIGHTS),
    "weighted, by rows": CrossEntropy(WEIGHTS, divisor="rows"),
    "smooth": CrossEntropy(label_smoothing=0.1),
    "a class is ignored": CrossEntropy(ignore_index=2),
}


def targets_of(name: str) -> Any:
    return np.where(LABELS < 0, 2, LABELS) if name == "a class is ignored" else LABELS


@pytest.mark.parametrize("name", LOSSES)
def test_products_are_those_of_the_dense_output_hessian(name: str) -> None:
    loss, targets = LOSSES[name], targets_of(name)
    expected = np.einsum("nab,nb->na", loss.hessian(xp, OUTPUTS, targets), VECTORS)
    found = loss.hessian_product(xp, OUTPUTS, targets, VECTORS)
    assert np.allclose(found, expected, rtol=1e-13, atol=1e-15), f"{found - expected}"


@pytest.mark.parametrize("name", LOSSES)
def test_no_number_depends_on_the_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, targets = LOSSES[name], targets_of(name)
    functions: list[Callable[[], Any]] = [
        lambda: loss.gradient(xp, OUTPUTS, targets),
        lambda: loss.hessian_product(xp, OUTPUTS, targets, VECTORS),
        lambda: loss.hessian_root_product(xp, OUTPUTS, targets, VECTORS),
    ]
    whole = [function() for function in functions]
    monkeypatch.setattr(chunks, "LARGEST", 2 * WORDS)
    for function, expected in zip(functions, whole, strict=True):
        assert np.array_equal(function(), expected), f"{function() - expected}"


def test_values_and_weights_of_labels_are_those_of_scipy() -> None:
    loss, counted = CrossEntropy(WEIGHTS), LABELS >= 0
    own = log_softmax(OUTPUTS, axis=1)[np.arange(ROWS), np.where(counted, LABELS, 0)]
    weights = np.array(WEIGHTS)[np.where(counted, LABELS, 0)] * counted
    assert np.allclose(loss.values(xp, OUTPUTS, LABELS), -own * counted, rtol=1e-13, atol=0)
    assert np.array_equal(loss.weights(xp, OUTPUTS, LABELS), weights), "a class weight is another"


def test_strict_arrays_have_the_same_numbers() -> None:
    strict = [array_api_strict.asarray(array) for array in (OUTPUTS, LABELS, VECTORS)]
    for name, loss in LOSSES.items():
        if name != "a class is ignored":
            found = loss.hessian_product(array_api_strict, *strict)
            assert np.allclose(np.asarray(found), loss.hessian_product(xp, OUTPUTS, LABELS, VECTORS), rtol=1e-14)
            values = np.asarray(loss.values(array_api_strict, *strict[:2]))
            assert np.allclose(values, loss.values(xp, OUTPUTS, LABELS), rtol=1e-14), name


def test_products_at_every_position_are_weighted() -> None:
    """Padded positions, and those at the end of a packed sequence, have no curvature."""
    outputs, labels = RANDOM.normal(size=(2, 4, WORDS)), np.array([[1, 2, -100, 3], [0, -100, -100, 4]])
    vectors = RANDOM.normal(size=outputs.shape)
    found = PositionLoss(NextTokenCrossEntropy()).curvature_product(xp, outputs, labels, vectors)
    p = softmax(outputs, axis=-1)
    expected = p * vectors - p * (p * vectors).sum(-1, keepdims=True)
    counted = np.zeros((2, 4, 1))
    counted[:, :3, 0] = labels[:, 1:] >= 0
    assert np.allclose(found, expected * counted, rtol=1e-13, atol=1e-15), f"{found - expected * counted}"


@pytest.mark.parametrize(
    ("method", "arrays"), [("values", 0.6), ("weights", 0.5), ("gradient", 2.5), ("hessian_product", 2.5)]
)
def test_memory_is_that_of_the_outputs(method: str, arrays: float) -> None:
    """256 rows of 50,257 words are 51 MB in single precision; before labels were looked up, a gradient took six such arrays beside them."""
    outputs = RANDOM.normal(size=(256, 50_257)).astype(np.float32)
    labels = RANDOM.integers(50_257, size=256)
    more = (outputs,) if method == "hessian_product" else ()
    tracemalloc.start()
    getattr(CrossEntropy(), method)(xp, outputs, labels, *more)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= arrays * outputs.nbytes, f"{peak / outputs.nbytes:.2f} arrays of the outputs' size"
