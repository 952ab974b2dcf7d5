"""Run the demonstration: load digits, train two networks, measure them, rescale them, measure again, and certify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.registry import DemonstrationBackend
from invariant_sharpness.cli.demonstration.results import DECADES, DEMONSTRATED, SIZES, Demonstration, NetworkResult
from invariant_sharpness.coordinates import Moved
from invariant_sharpness.errors import missing_dependency
from invariant_sharpness.evaluation.certifying import certify
from invariant_sharpness.evaluation.measuring import measure
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Stream, random_bits, uniform_values
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.progress import track
from invariant_sharpness.symmetries import chain_rescalings, unit_count

LOSS = "normalized_cross_entropy"

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


def demonstrate(backend: DemonstrationBackend, *, seed: int = 0) -> Demonstration:
    r"""Train two networks on digits, one of them on random labels; measure both, rescale them, measure again.

    Every hidden unit is multiplied by a factor of its own, log-uniform in :math:`[10^{-4}, 10^4]`, and what goes out of it
    divided by the same: equations (15) and (16) of Tsuzuku et al. (2019). Both networks are measured on their own
    training data with the loss (20), which does not see the scale of the outputs. Under plain
    cross-entropy a network that fits looks flatter and flatter as its last layer grows.

    Last, everything in the first network that can be rescaled is found from its Jacobian, and all metrics are certified with it.

    Parameters
    ----------
    backend
        The backend that trains and differentiates the networks.
    seed
        Seed of the split, the random labels, the training, the factors and all probes.

    Returns
    -------
    Demonstration
        The measurements, which print, draw and export themselves. Cost: two trainings, about half a minute.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.
    """
    digits = load_digits(seed)
    guesses = random_labels(len(digits.training_labels), seed)
    tasks = {"true labels": digits.training_labels, "random labels": guesses}
    learned, memorized = [
        _train(backend, digits, name, labels, seed)
        for name, labels in track(tasks.items(), "training two networks", len(tasks))
    ]
    results = [_examine(trained, digits, seed) for trained in (learned, memorized)]
    certificate = certify(learned.oracle, DEMONSTRATED, seed=seed)
    return Demonstration(backend.name, LOSS, seed, results[0], results[1], certificate)


def load_digits(seed: int) -> Digits:
    """Load the digits, split at random into training and test examples.

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
    """Draw labels that have nothing to do with the digits."""
    return (random_bits(seed, Stream.DEMONSTRATION_LABELS, 0, count) % np.uint64(CLASSES)).astype(np.int64)


def rescaled(oracle: CurvatureOracle, seed: int) -> ParameterVector:
    """Multiply every hidden unit of a chain of layers by a random factor, and divide what goes out of it by the same."""
    parameters = oracle.parameters
    for layer, rescaling in enumerate(chain_rescalings(oracle.groups)):
        count = unit_count(oracle.groups, rescaling)
        exponents = DECADES * uniform_values(seed, Stream.DEMONSTRATION_FACTORS, layer, count)
        parameters = rescaling.apply(oracle, parameters, np.power(10.0, exponents))
    return parameters


class _Trained(NamedTuple):
    """A network with its training data."""

    backend: DemonstrationBackend
    name: str
    model: Any
    labels: Labels
    oracle: CurvatureOracle


def _train(backend: DemonstrationBackend, digits: Digits, name: str, labels: Labels, seed: int) -> _Trained:
    model = backend.train_network(digits.training_inputs, labels, sizes=SIZES, seed=seed)
    return _Trained(backend, name, model, labels, backend.oracle(model, (digits.training_inputs, labels), loss=LOSS))


def _examine(trained: _Trained, digits: Digits, seed: int) -> NetworkResult:
    backend, oracle = trained.backend, trained.oracle
    return NetworkResult(
        name=trained.name,
        training_accuracy=backend.accuracy(trained.model, digits.training_inputs, trained.labels),
        test_accuracy=backend.accuracy(trained.model, digits.test_inputs, digits.test_labels),
        before=measure(oracle, DEMONSTRATED, seed=seed),
        after=measure(Moved(oracle, rescaled(oracle, seed)), DEMONSTRATED, seed=seed),
    )
