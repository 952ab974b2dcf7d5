"""The symmetries of Keras' networks on its three engines, against those derived by hand."""

from __future__ import annotations

import re

import pytest

from zoo.keras_results import found, tensorflow_before_others

DEPTHWISE, TRANSPOSED = "convolutional/depthwise_conv2d", "convolutional/conv2d_transpose"
NORM = "convolutional/batch_normalization"

EXPECTED = {
    "perceptron": {
        f"perceptron/hidden{layer}/kernel[:, {i}], perceptron/hidden{layer}/bias[{i}] up, perceptron/{reader}/kernel[{i}] down"
        for layer, reader, width in ((0, "hidden1", 7), (1, "last", 6))
        for i in range(width)
    },
    "perceptron of gelu": set(),
    # Four normalized channels, two kernels on each of them, and three channels that are pooled.
    "convolutional": {
        *(f"{NORM}/gamma[{i}], {NORM}/beta[{i}] up, {DEPTHWISE}/kernel[:, :, {i}] down" for i in range(4)),
        *(
            f"{DEPTHWISE}/kernel[:, :, {i}, {k}], {DEPTHWISE}/bias[{2 * i + k}] up, "
            f"{TRANSPOSED}/kernel[:, :, :, {2 * i + k}] down"
            for i in range(4)
            for k in range(2)
        ),
        *(
            f"{TRANSPOSED}/kernel[:, :, {i}], {TRANSPOSED}/bias[{i}] up, convolutional/dense/kernel[{i}] down"
            for i in range(3)
        ),
    },
    "words": {
        *(f"norm/gamma[{i}], norm/beta[{i}] up, inner/kernel[{i}] down" for i in range(4)),
        *(f"last/kernel[{i}] down, inner/kernel[:, {i}], inner/bias[{i}] to the power 0.5" for i in range(3)),
    },
}


def without_numbers(text: str) -> str:
    """Keras numbers the layers of one kind that a process has built."""
    return re.sub(r"_\d+(?=/)", "", text)


@tensorflow_before_others
@pytest.mark.parametrize("network", EXPECTED)
def test_those_derived_by_hand_are_found(engine: str, network: str) -> None:
    texts = [without_numbers(text) for text in found(engine, "symmetries")[network]["texts"]]
    expected = EXPECTED[network]
    assert sorted(texts) == sorted(expected), (
        f"{len(texts)} found, {len(expected)} expected; missed {expected - set(texts)}, false {set(texts) - expected}"
    )


@tensorflow_before_others
@pytest.mark.parametrize("network", EXPECTED)
def test_the_search_is_complete_and_nothing_is_idle(engine: str, network: str) -> None:
    result = found(engine, "symmetries")[network]
    assert (result["complete"], result["idle"]) == (True, 0), f"complete: {result['complete']}, {result['idle']} idle"
