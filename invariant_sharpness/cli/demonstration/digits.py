"""The data of the demonstration: scikit-learn's handwritten digits, split at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import missing_dependency
from invariant_sharpness.prng import Stream, random_bits

Inputs = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

CLASSES = 10
TEST_EXAMPLES = 450


@dataclass(frozen=True, slots=True)
class Digits:
    """Scikit-learn's handwritten digits: 8 x 8 pixels between 0 and 1, in two parts."""

    training_inputs: Inputs
    training_labels: Labels
    test_inputs: Inputs
    test_labels: Labels


def load_digits(seed: int) -> Digits:
    """The digits, split at random into training and test examples.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as cause:
        error = missing_dependency("scikit-learn", "demo", "the demonstration")
        raise error from cause
    pixels, labels = map(np.asarray, datasets.load_digits(return_X_y=True))
    order = np.argsort(random_bits(seed, Stream.DEMONSTRATION_SPLIT, 0, len(labels)), kind="stable")
    inputs, labels = pixels[order] / 16.0, labels[order].astype(np.int64)
    return Digits(inputs[:-TEST_EXAMPLES], labels[:-TEST_EXAMPLES], inputs[-TEST_EXAMPLES:], labels[-TEST_EXAMPLES:])


def random_labels(count: int, seed: int) -> Labels:
    """Labels that have nothing to do with the digits."""
    return (random_bits(seed, Stream.DEMONSTRATION_LABELS, 0, count) % np.uint64(CLASSES)).astype(np.int64)
