"""The battery of Jiang et al. in the zoo, against closed forms on networks small enough for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from zoo_measures import battery, largest_noise, log_product, output_margin, over_margin, spectral_norm
from zoo_network import Array, Noise, Trained

DRAWS = 5
"""Of the noise, in the definition of the largest one."""

BRACKET = 1.001 * math.log(1e6) / 2**12
"""How far below the largest noise its logarithm may be found: the last bracket of the bisection, and rounding."""


def random_layers(sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    random = np.random.default_rng(0)
    return [(random.normal(size=(m, n)), random.normal(size=m)) for n, m in pairwise(sizes)]


def logits(layers: Sequence[tuple[Array, Array]], x: Array) -> Array:
    for number, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if number else x) @ weight.T + bias
    return x


def trained(layers: Sequence[tuple[Array, Array]], x: Array) -> Trained:
    """A dense network of NumPy, with half its weights as the initial ones."""

    def perturbed(noise: Noise) -> Array:
        moved = [
            tuple(array + noise(2 * number + part, array.shape) for part, array in enumerate(layer))
            for number, layer in enumerate(layers)
        ]
        return logits(moved, x)

    return Trained(
        oracle=lambda loss: pytest.fail(f"the battery needs no oracle of {loss}"),
        initial=[weight / 2 for weight, _ in layers],
        weights=[weight for weight, _ in layers],
        outputs=lambda inputs: logits(layers, inputs),
        perturbed_outputs=perturbed,
        squared_outputs=lambda: np.array([[2.0, 5.0]]),
        parameter_count=sum(weight.size + bias.size for weight, bias in layers),
        epochs=1,
        loss=0.0,
    )


def singular_values(weights: Sequence[Array]) -> list[Array]:
    return [np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False) for weight in weights]


def test_products_of_norms_are_those_of_singular_values() -> None:
    random = np.random.default_rng(0)
    weights = [random.normal(size=shape) for shape in ((4, 3, 2, 2), (5, 4), (2, 5))]
    values = singular_values(weights)
    spectral = math.prod(s[0] ** 2 for s in values)
    frobenius = math.prod((s**2).sum() for s in values)
    assert log_product(weights, 2) == pytest.approx(math.log(spectral), rel=1e-12)
    assert log_product(weights, "fro") == pytest.approx(math.log(frobenius), rel=1e-12)


def test_the_spectral_norm_of_a_convolution_is_that_of_its_kernel() -> None:
    kernel = np.zeros((2, 3, 2, 2))
    kernel[1, 2] = [[2, 4], [4, 8]]  # one row alone: its length is 10
    assert spectral_norm(kernel) == pytest.approx(10, rel=1e-15)


def test_distances_are_those_from_the_initial_weights() -> None:
    layers = random_layers((3, 4, 2))
    x = np.zeros((1, 3))
    found = battery(trained(layers, x), x, logits(layers, x).argmax(axis=1))
    values = singular_values([weight / 2 for weight, _ in layers])  # half the weights are the initial ones
    assert found["frobenius_distance"] == pytest.approx(sum((s**2).sum() for s in values), rel=1e-12)
    assert found["spectral_distance"] == pytest.approx(sum(s[0] ** 2 for s in values), rel=1e-12)
    assert found["sum_of_frobenius_norms"] == pytest.approx(4 * found["frobenius_distance"], rel=1e-12)
    assert found["parameter_count"] == 3 * 4 + 4 + 4 * 2 + 2


def outputs_of_margins(margins: Sequence[float]) -> tuple[Array, np.ndarray]:
    """Logits of three classes, whose labels take turns: the label has 1, one other 1 - margin, and the third less."""
    labels = np.arange(len(margins)) % 3
    outputs = np.full((len(margins), 3), -9.0)
    rows = np.arange(len(margins))
    outputs[rows, labels], outputs[rows, (labels + 1) % 3] = 1.0, 1.0 - np.array(margins)
    return outputs, labels


def test_the_margin_is_that_of_the_tenth_percentile() -> None:
    outputs, labels = outputs_of_margins([5, 3, 0.25, 4, -2, 6, 1, 2, 7, 8, 9])
    before = outputs.copy()
    assert output_margin(outputs, labels) == 0.25, "of eleven examples, the tenth percentile is the second smallest"
    assert (outputs == before).all(), "outputs have been changed"


def test_measures_over_the_margin_are_divided_by_its_square() -> None:
    layers = random_layers((3, 4, 2))
    x = np.random.default_rng(1).normal(size=(11, 3))
    y = logits(layers, x).argmax(axis=1)
    found = battery(trained(layers, x), x, y)
    margin = np.sort(abs(np.diff(logits(layers, x), axis=1)[:, 0]))[1]  # of two classes, eleven examples
    assert found["inverse_margin"] == pytest.approx(margin**-2, rel=1e-12)
    assert found["path_norm"] == 2 + 5, "the sum over outputs"
    assert found["path_norm_over_margin"] == pytest.approx(7 / margin**2, rel=1e-12)
    for name in ("log_product_of_spectral_norms", "log_product_of_frobenius_norms"):
        quotient = math.exp(found[name]) / margin**2
        assert found[f"{name}_over_margin"] == pytest.approx(math.log(quotient), rel=1e-12)


def test_nothing_is_divided_by_a_margin_that_is_not_positive() -> None:
    layers = random_layers((3, 4, 2))
    x = np.random.default_rng(1).normal(size=(11, 3))
    found = battery(trained(layers, x), x, logits(layers, x).argmin(axis=1))
    assert all(np.isnan(value) == ("margin" in name) for name, value in found.items()), found
    assert math.isnan(over_margin(1.0, 0.0))


def breaking_points(weight: Array, bias: Array, x: Array, y: np.ndarray) -> list[float]:
    """For every draw and example of a linear network, all of which are right: the sigma beyond which it is wrong.

    Logits are linear in sigma, so the label stays ahead of another class up to where two lines cross, and never is ahead again.
    """
    points = []
    for draw in range(DRAWS):
        noise = [np.random.default_rng([draw, n]).standard_normal(a.shape) for n, a in enumerate((weight, bias))]
        clean, slope = x @ weight.T + bias, x @ noise[0].T + noise[1]
        for example, label in enumerate(y):
            lead, loss = clean[example, label] - clean[example], slope[example] - slope[example, label]
            points.append(min((a / b for a, b in zip(lead, loss, strict=True) if b > 0), default=math.inf))
    return points


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_the_largest_noise_of_a_linear_network_has_a_closed_form(scale: float) -> None:
    ((weight, bias),) = random_layers((6, 4))
    weight, bias = scale * weight, scale * bias
    x = np.random.default_rng(1).normal(size=(51, 6))
    y = logits([(weight, bias)], x).argmax(axis=1)
    points = sorted(breaking_points(weight, bias, x, y))
    expected = points[DRAWS * len(y) // 10]  # a tenth of all predictions may be wrong: the next one may not
    found = largest_noise(trained([(weight, bias)], x), y)
    assert -BRACKET <= math.log(found / expected) <= 0, f"{found} for {expected}"
    flatness = battery(trained([(weight, bias)], x), x, y)["pac_bayes_flatness"]
    assert flatness == pytest.approx(found**-2, rel=1e-12)


def test_the_largest_noise_is_bounded_where_no_noise_hurts() -> None:
    layers = [(np.zeros((1, 2)), np.zeros(1))]  # one class: always right
    found = largest_noise(trained(layers, np.ones((3, 2))), np.zeros(3, dtype=int))
    assert math.log(10) - BRACKET <= math.log(found) <= math.log(10)
