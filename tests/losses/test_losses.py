"""The losses: values and derivatives against complex steps and closed forms, and what they refuse."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invariant_sharpness.errors import DataError, LossError
from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy, SquaredError, named_loss
from zoo import complex_step
from zoo.seeds import seeds

NAMESPACES = {"numpy": array_api_compat.numpy, "strict": array_api_strict}
REFERENCES = {
    "cross_entropy": complex_step.cross_entropy,
    "normalized_cross_entropy": complex_step.normalized_cross_entropy,
    "mse": complex_step.squared_error,
}
CLASSIFICATION = [CrossEntropy(), NormalizedCrossEntropy()]


def logits(seed: int, rows: int = 6, classes: int = 4) -> Any:
    return 3 * np.random.default_rng(seed).normal(size=(rows, classes))


def targets(name: str, seed: int, rows: int = 6, classes: int = 4) -> Any:
    rng = np.random.default_rng(seed + 100)
    return rng.normal(size=(rows, classes)) if name == "mse" else rng.integers(0, classes, rows)


def close(value: Any, expected: Any, tolerance: float, what: str) -> None:
    error = float(np.max(np.abs(np.asarray(value) - expected)) / max(1.0, float(np.max(np.abs(expected)))))
    assert error <= tolerance, f"{what} is off by {error:.1e}, more than {tolerance:.0e}: {value} and not {expected}"


@pytest.fixture(params=NAMESPACES)
def xp(request: pytest.FixtureRequest) -> Any:
    return NAMESPACES[request.param]


@pytest.mark.parametrize("name", REFERENCES)
@seeds(3)
def test_values_are_the_printed_equations(xp: Any, name: str, seed: int) -> None:
    z, y = logits(seed), targets(name, seed)
    loss = named_loss(name)
    loss.check(xp, xp.asarray(z), xp.asarray(y))
    close(loss.values(xp, xp.asarray(z), xp.asarray(y)), REFERENCES[name](z[None], y)[0], 1e-14, f"values of {name}")


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@seeds(3)
def test_root_times_its_transpose_is_the_output_hessian(xp: Any, name: str, seed: int) -> None:
    z, y, loss = logits(seed), targets(name, seed), named_loss(name)
    columns = [np.broadcast_to(unit, z.shape) for unit in np.eye(z.shape[1])]
    root = np.stack(
        [
            np.asarray(loss.hessian_root_product(xp, xp.asarray(z), xp.asarray(y), xp.asarray(u.copy())))
            for u in columns
        ],
        axis=2,
    )
    expected = [
        complex_step.hessian(lambda row, n=n: REFERENCES[name](row[:, None], y[n : n + 1])[:, 0], z[n])
        for n in range(len(z))
    ]
    close(root @ root.transpose(0, 2, 1), np.stack(expected), 1e-9, f"R R^T of {name}")


@pytest.mark.parametrize("name", REFERENCES)
@seeds(3)
def test_gradient_is_that_of_complex_steps(xp: Any, name: str, seed: int) -> None:
    z, y = logits(seed), targets(name, seed)
    expected = [
        complex_step.gradient(lambda t, n=n: REFERENCES[name](t[:, None, :], y[n : n + 1])[:, 0], z[n])
        for n in range(6)
    ]
    close(named_loss(name).gradient(xp, xp.asarray(z), xp.asarray(y)), expected, 1e-13, f"gradient of {name}")


@pytest.mark.parametrize("name", REFERENCES)
@seeds(3)
def test_hessian_is_that_of_complex_steps(xp: Any, name: str, seed: int) -> None:
    z, y = logits(seed), targets(name, seed)
    expected = [
        complex_step.hessian(lambda t, n=n: REFERENCES[name](t[:, None, :], y[n : n + 1])[:, 0], z[n]) for n in range(6)
    ]
    close(named_loss(name).hessian(xp, xp.asarray(z), xp.asarray(y)), expected, 1e-9, f"Hessian of {name}")


@pytest.mark.parametrize("name", REFERENCES)
def test_hessian_factors_multiply_to_the_hessian(xp: Any, name: str) -> None:
    z, y = xp.asarray(logits(5)), xp.asarray(targets(name, 5))
    weights, vectors = named_loss(name).hessian_factors(xp, z, y)
    product = np.einsum("nr,nkr,nlr->nkl", *(np.asarray(part) for part in (weights, vectors, vectors)))
    close(product, np.asarray(named_loss(name).hessian(xp, z, y)), 1e-13, f"product of the factors of {name}")


def test_cross_entropy_has_one_factor_less_than_classes(xp: Any) -> None:
    weights, vectors = CrossEntropy().hessian_factors(
        xp, xp.asarray(logits(5)), xp.asarray(targets("cross_entropy", 5))
    )
    classes = vectors.shape[1]
    assert weights.shape[1] == vectors.shape[2] == classes - 1, f"{vectors.shape[2]} factors of {classes} classes"


def test_cross_entropy_of_a_single_output_is_refused(xp: Any) -> None:
    with pytest.raises(LossError, match="single output is zero whatever the network does"):
        CrossEntropy().check(xp, xp.zeros((3, 1)), xp.asarray([0, 0, 0]))


def test_cross_entropy_of_two_equal_logits_is_ln_2(xp: Any) -> None:
    z, y = xp.zeros((1, 2), dtype=xp.float64), xp.asarray([1])
    loss = CrossEntropy()
    close(loss.values(xp, z, y), [log(2)], 1e-15, "cross-entropy")
    close(loss.gradient(xp, z, y), [[0.5, -0.5]], 1e-15, "gradient")
    close(loss.hessian(xp, z, y), [[[0.25, -0.25], [-0.25, 0.25]]], 1e-15, "Hessian")


def test_squared_error_is_the_mean_over_outputs_without_one_half(xp: Any) -> None:
    z, t = xp.asarray([[1.0, 2.0, 4.0]]), xp.asarray([[0.0, 0.0, 1.0]])
    loss = SquaredError()
    close(loss.values(xp, z, t), [(1 + 4 + 9) / 3], 1e-15, "squared error")
    close(loss.gradient(xp, z, t), [[2 / 3, 4 / 3, 2]], 1e-15, "gradient")
    close(loss.hessian(xp, z, t), [np.eye(3) * 2 / 3], 1e-15, "Hessian")


@pytest.mark.parametrize(("classes", "bound"), [(3, 0.215), (10, 0.278)])
def test_normalized_cross_entropy_has_its_minimum_at_one_hot_logits(xp: Any, classes: int, bound: float) -> None:
    exact = log(1 + (classes - 1) * exp(-(sqrt(classes - 1) + 1 / sqrt(classes - 1))))
    one_hot = xp.asarray(7.0 * np.eye(classes)[:1])
    close(NormalizedCrossEntropy().values(xp, one_hot, xp.asarray([0])), [exact], 1e-14, "least value")
    assert abs(exact - bound) < 5e-4, f"the least value for K={classes} is {exact}, not {bound}"


@given(seed=st.integers(0, 2**32), classes=st.integers(3, 12))
def test_normalized_cross_entropy_is_bounded_away_from_zero(seed: int, classes: int) -> None:
    xp = array_api_compat.numpy
    least = log(1 + (classes - 1) * exp(-(sqrt(classes - 1) + 1 / sqrt(classes - 1))))
    z = np.random.default_rng(seed).standard_cauchy((5, classes))
    values = NormalizedCrossEntropy().values(xp, z, np.argmax(z, axis=1))
    assert values.min() >= least * (1 - 1e-12), f"{values.min()} lies below the least value {least} for K={classes}"


@given(seed=st.integers(0, 2**32), exponent=st.floats(-8, 8))
def test_normalized_cross_entropy_ignores_scale_and_shift_of_each_example(seed: int, exponent: float) -> None:
    xp = array_api_compat.numpy
    rng = np.random.default_rng(seed)
    z, y = rng.normal(size=(4, 5)), rng.integers(0, 5, 4)
    scale, shift = 10 ** (exponent * rng.random((4, 1))), rng.normal(size=(4, 1))
    moved = NormalizedCrossEntropy().values(xp, scale * (z + shift), y)
    close(moved, NormalizedCrossEntropy().values(xp, z, y), 1e-11, f"value after scaling by {scale.ravel()}")


def test_normalized_cross_entropy_is_homogeneous_of_degree_zero(xp: Any) -> None:
    z, y = xp.asarray(logits(1)), xp.asarray(targets("", 1))
    loss = NormalizedCrossEntropy()
    gradient, hessian = (np.asarray(part(xp, z, y)) for part in (loss.gradient, loss.hessian))
    close(np.sum(np.asarray(z) * gradient, axis=1), np.zeros(6), 1e-14, "f . gradient")
    close(np.einsum("nkl,nl->nk", hessian, np.asarray(z)), -gradient, 1e-13, "Hessian times f, minus the gradient,")


def test_normalized_cross_entropy_has_an_indefinite_hessian(xp: Any) -> None:
    hessian = np.asarray(NormalizedCrossEntropy().hessian(xp, xp.asarray(logits(2)), xp.asarray(targets("", 2))))
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert (eigenvalues[:, 0] < -1e-6).all(), f"least eigenvalues {eigenvalues[:, 0]} should all be negative"
    assert (eigenvalues[:, -1] > 1e-6).all(), f"largest eigenvalues {eigenvalues[:, -1]} should all be positive"


@pytest.mark.parametrize("loss", CLASSIFICATION, ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_stay_finite(xp: Any, loss: Any, dtype: str) -> None:
    z = xp.asarray([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=getattr(xp, dtype))
    y = xp.asarray([1, 0])
    parts = [loss.values(xp, z, y), loss.gradient(xp, z, y), loss.hessian(xp, z, y), *loss.hessian_factors(xp, z, y)]
    for part in parts:
        assert np.isfinite(np.asarray(part)).all(), f"{loss.name} of logits of 1e4 is not finite: {part}"


def test_cross_entropy_of_extreme_logits_is_their_difference(xp: Any) -> None:
    z = xp.asarray([[1e4, -1e4, 0.0]])
    close(CrossEntropy().values(xp, z, xp.asarray([1])), [2e4], 1e-15, "cross-entropy")


@pytest.mark.parametrize("loss", [CrossEntropy, NormalizedCrossEntropy])
def test_class_weights_weigh_the_rows_of_their_class(xp: Any, loss: Any) -> None:
    weighted = loss(class_weights=(0.5, 2.0, 7.0))
    weights = weighted.weights(xp, xp.asarray(logits(0, 4, 3)), xp.asarray([2, 0, 1, -100]))
    close(weights, [7.0, 0.5, 2.0, 0.0], 1e-15, "weights of the rows")


@pytest.mark.parametrize("loss", [CrossEntropy, NormalizedCrossEntropy])
@pytest.mark.parametrize("class_weights", [None, (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("ignored", [-100, -1, 0, 2])
def test_ignored_rows_weigh_nothing_even_if_their_label_is_a_class(
    xp: Any, loss: Any, class_weights: Any, ignored: int
) -> None:
    ignoring = loss(class_weights=class_weights, ignore_index=ignored)
    z, y = xp.asarray(logits(0, 3, 3)), xp.asarray([1, ignored, 1])
    ignoring.check(xp, z, y)
    close(ignoring.weights(xp, z, y), [1.0, 0.0, 1.0], 0, f"weights with ignore_index={ignored}")
    assert np.isfinite(np.asarray(ignoring.values(xp, z, y))).all(), "the value of an ignored row is not finite"


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_labels_of_every_integer_type_mean_the_same(xp: Any, dtype: str) -> None:
    z, y = logits(0, 5, 300), np.array([0, 1, 2, 3, 4])
    labels = xp.asarray(y, dtype=getattr(xp, dtype))
    loss = CrossEntropy()
    loss.check(xp, xp.asarray(z), labels)
    close(loss.values(xp, xp.asarray(z), labels), complex_step.cross_entropy(z[None], y)[0], 1e-14, f"{dtype} labels")
    close(loss.weights(xp, xp.asarray(z), labels), np.ones(5), 0, f"weights of {dtype} labels")


@pytest.mark.parametrize("wrong", [3, -1, -7])
@pytest.mark.parametrize("loss", CLASSIFICATION, ids=lambda loss: loss.name)
def test_a_label_out_of_range_is_named(xp: Any, loss: Any, wrong: int) -> None:
    with pytest.raises(DataError, match=rf"target {wrong} of example 2 .*3 outputs, so labels go from 0 to 2"):
        loss.check(xp, xp.asarray(logits(0, 4, 3)), xp.asarray([0, 1, wrong, 2]))


@pytest.mark.parametrize("loss", CLASSIFICATION, ids=lambda loss: loss.name)
def test_float_labels_are_named(xp: Any, loss: Any) -> None:
    with pytest.raises(DataError, match=r"dtype .*float64.*class labels are integers"):
        loss.check(xp, xp.asarray(logits(0, 2, 3)), xp.asarray([0.0, 1.0]))


@pytest.mark.parametrize("shapes", [((4, 3), (5,)), ((4, 3), (4, 1)), ((4,), (4,))])
@pytest.mark.parametrize("loss", CLASSIFICATION, ids=lambda loss: loss.name)
def test_wrong_shapes_are_named(xp: Any, loss: Any, shapes: Any) -> None:
    with pytest.raises(DataError, match=r"outputs have shape \(4.*one class label per example"):
        loss.check(xp, xp.zeros(shapes[0]), xp.zeros(shapes[1], dtype=xp.int64))


def test_squared_error_wants_equal_shapes(xp: Any) -> None:
    with pytest.raises(DataError, match=r"\(4, 3\) and targets \(4,\).*equal shapes"):
        SquaredError().check(xp, xp.zeros((4, 3)), xp.zeros(4))


def test_a_wrong_number_of_class_weights_is_named(xp: Any) -> None:
    with pytest.raises(DataError, match=r"2 class weights were given for 3 outputs"):
        CrossEntropy(class_weights=(1.0, 2.0)).weights(xp, xp.zeros((4, 3)), xp.asarray([0, 1, 2, 0]))


def test_normalized_cross_entropy_refuses_two_outputs(xp: Any) -> None:
    with pytest.raises(LossError, match=r"piecewise constant with K = 2"):
        NormalizedCrossEntropy().check(xp, xp.asarray(logits(0, 4, 2)), xp.asarray([0, 1, 1, 0]))


@pytest.mark.parametrize("row", [[0.1, 0.1, 0.1], [0.0, 1e-200, 0.0]])
def test_normalized_cross_entropy_names_an_example_without_spread(xp: Any, row: list[float]) -> None:
    with pytest.raises(LossError, match=r"standard deviation.*example 1 in the batch"):
        NormalizedCrossEntropy().check(xp, xp.asarray([[1.0, 2.0, 3.0], row]), xp.asarray([0, 1]))


def test_an_unknown_loss_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(LossError, match=r"'hinge'.*'cross_entropy', 'next_token_cross_entropy', 'normal.*'mse'"):
        named_loss("hinge")
