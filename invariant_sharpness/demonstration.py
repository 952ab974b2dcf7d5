"""The demonstration: two networks, one that learned and one that memorized, before and after a rescaling.

Hidden units of a ReLU network can be rescaled without changing its function. Raw measures of
sharpness explode; normalized ones stay. Nothing here knows a framework: a backend trains the networks.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from invariant_sharpness.coordinates import Moved
from invariant_sharpness.estimate import Estimate
from invariant_sharpness.measuring import measure
from invariant_sharpness.metrics import METRICS
from invariant_sharpness.probes import random_bits
from invariant_sharpness.progress import track
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.registry import DemonstrationBackend, missing_dependency
from invariant_sharpness.report import Report
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness.vector import ParameterVector

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Inputs = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

SIZES = (64, 64, 64, 10)
"""Inputs, two hidden layers and outputs of both networks."""

TEST_EXAMPLES = 450
LOSS = "normalized_cross_entropy"
DECADES = 4
"""Units are multiplied by factors between 10**-DECADES and 10**DECADES."""

DEMONSTRATED = (
    "hessian_trace",
    "hessian_spectral_norm",
    "matrix_normalized_sharpness",
    "parameter_normalized_sharpness",
    "normalized_sharpness",
    "fisher_rao_norm",
)

# Probes take the streams that start at 0: numbers drawn here must have nothing to do with theirs.
_SPLIT, _LABELS, _FACTORS = (2**32 + stream for stream in range(3))


@dataclass(frozen=True, slots=True)
class Digits:
    """Scikit-learn's handwritten digits: 8 x 8 pixels between 0 and 1, in two parts."""

    training_inputs: Inputs
    training_labels: Labels
    test_inputs: Inputs
    test_labels: Labels


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """One network, measured on its own training data where it is, and rescaled.

    Parameters
    ----------
    name
        What it was trained on, in words.
    training_accuracy
        On the labels that it was trained on.
    test_accuracy
        On true labels that it has not seen.
    before, after
        The measurements, in front of and behind the rescaling.
    """

    name: str
    training_accuracy: float
    test_accuracy: float
    before: Report
    after: Report

    @property
    def loss_change(self) -> float:
        """Relative change of the loss through the rescaling: rounding, if the function is the same."""
        return abs(self.after.loss - self.before.loss) / abs(self.before.loss)

    @property
    def factors(self) -> dict[str, float]:
        """The value after the rescaling over the value before, of each metric; NaN if that was zero."""
        return {name: ratio(self.after[name].value, self.before[name].value) for name in self.before}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and dictionaries."""
        return {
            "name": self.name,
            "training_accuracy": self.training_accuracy,
            "test_accuracy": self.test_accuracy,
            "loss_change": self.loss_change,
            "factors": self.factors,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What :func:`demonstrate` returns: it prints as a table and draws itself."""

    backend: str
    loss: str
    seed: int
    learned: NetworkResult
    memorized: NetworkResult

    @property
    def networks(self) -> tuple[NetworkResult, NetworkResult]:
        """The network that learned true labels, and the one that memorized random labels."""
        return self.learned, self.memorized

    @property
    def sharpness_ratio(self) -> float:
        """Normalized sharpness (17) of the network on random labels, over that of the one on true labels."""
        memorized, learned = (n.before["normalized_sharpness"].value for n in (self.memorized, self.learned))
        return ratio(memorized, learned)

    def __str__(self) -> str:
        from invariant_sharpness.demonstration_text import print_demonstration

        text = io.StringIO()
        print_demonstration(self, Console(file=text, width=118, force_jupyter=False))
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and dictionaries."""
        return {
            "backend": self.backend,
            "loss": self.loss,
            "seed": self.seed,
            "sizes": list(SIZES),
            "largest_factor": 10.0**DECADES,
            "sharpness_ratio": self.sharpness_ratio,
            "networks": [network.to_dict() for network in self.networks],
        }

    def plot(self) -> Figure:
        """What the rescaling does to each metric, and normalized sharpness layer by layer.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        from invariant_sharpness.plotting import new_figure, plot_groups_together, plot_rescaling

        figure = new_figure(9.6, 7.6)
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1.25))
        figure.suptitle("Hidden units rescaled: the same function, other parameters", fontsize="x-large")
        plot_rescaling({n.name: n.factors for n in self.networks}, survivors(DEMONSTRATED), upper)
        plot_groups_together({n.name: n.before["normalized_sharpness"] for n in self.networks}, lower)
        lower.set_title("normalized_sharpness of each layer, before the rescaling", fontsize="medium", loc="left")
        return figure


def demonstrate(backend: DemonstrationBackend, *, seed: int = 0) -> Demonstration:
    r"""Train two networks on digits, one of them on random labels; measure both, rescale them, measure again.

    Every hidden unit is multiplied by a factor of its own, log-uniform in :math:`[10^{-4}, 10^4]`, and what goes out of it
    divided by the same: equations (15) and (16) of Tsuzuku et al. (2019). Both networks are measured on their own
    training data with the loss (20), which does not see the scale of the outputs. Under plain
    cross-entropy a network that fits looks flatter and flatter as its last layer grows.

    Parameters
    ----------
    backend
        Trains and differentiates the networks.
    seed
        Of the split, the random labels, the training, the factors and all probes.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.
    """
    digits = load_digits(seed)
    guesses = (random_bits(seed, _LABELS, 0, len(digits.training_labels)) % np.uint64(SIZES[-1])).astype(np.int64)
    tasks = {"true labels": digits.training_labels, "random labels": guesses}
    learned, memorized = [
        _examine(backend, digits, name, labels, seed)
        for name, labels in track(tasks.items(), "training and measuring two networks", len(tasks))
    ]
    return Demonstration(backend.name, LOSS, seed, learned, memorized)


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
    order = np.argsort(random_bits(seed, _SPLIT, 0, len(labels)), kind="stable")
    inputs, labels = pixels[order] / 16.0, labels[order].astype(np.int64)
    return Digits(inputs[:-TEST_EXAMPLES], labels[:-TEST_EXAMPLES], inputs[-TEST_EXAMPLES:], labels[-TEST_EXAMPLES:])


def rescaled(oracle: CurvatureOracle, seed: int) -> ParameterVector:
    """The parameters of a chain of layers, with every hidden unit multiplied by a random factor."""
    parameters = oracle.parameters
    for layer, rescaling in enumerate(chain_rescalings(oracle.groups)):
        bits = random_bits(seed, _FACTORS, layer, unit_count(oracle.groups, rescaling))
        exponents = DECADES * ((bits >> np.uint64(11)) * 2.0**-52 - 1.0)
        parameters = rescaling.apply(oracle, parameters, np.float64(10) ** exponents)
    return parameters


def survivors(metrics: Iterable[str]) -> list[str]:
    """Those of the metrics that claim to survive the rescaling of hidden units."""
    return [name for name in metrics if METRICS[name].invariances & {"row_column", "diagonal", "linear"}]


def unconverged(network: NetworkResult) -> Mapping[str, Estimate]:
    """The estimates whose iteration did not reach its tolerance, by name and time."""
    times = {"before": network.before, "after": network.after}
    return {f"{name} {time}": e for time, report in times.items() for name, e in report.items() if not e.converged}


def _examine(backend: DemonstrationBackend, digits: Digits, name: str, labels: Labels, seed: int) -> NetworkResult:
    model = backend.train_network(digits.training_inputs, labels, sizes=SIZES, seed=seed)
    oracle = backend.oracle(model, (digits.training_inputs, labels), loss=LOSS)
    return NetworkResult(
        name=name,
        training_accuracy=backend.accuracy(model, digits.training_inputs, labels),
        test_accuracy=backend.accuracy(model, digits.test_inputs, digits.test_labels),
        before=measure(oracle, DEMONSTRATED, seed=seed),
        after=measure(Moved(oracle, rescaled(oracle, seed)), DEMONSTRATED, seed=seed),
    )


def ratio(above: float, below: float) -> float:
    """The quotient; NaN if ``below`` is zero."""
    return above / below if below != 0 else float("nan")
