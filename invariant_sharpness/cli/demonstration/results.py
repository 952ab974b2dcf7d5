"""The results of the demonstration: numbers, and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from invariant_sharpness.evaluation.certificate import Certificate
from invariant_sharpness.evaluation.report import Report
from invariant_sharpness.metrics import METRICS
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.results.ratios import factors, ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (64, 64, 64, 10)
"""Inputs, two hidden layers and outputs of both networks."""

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


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """One network, measured on its own training data where it is, and rescaled.

    Parameters
    ----------
    name
        What the network was trained on, in words.
    training_accuracy
        The share of right answers on the labels that it was trained on.
    test_accuracy
        The share of right answers on true labels that it has not seen.
    before, after
        The measurements before and after the rescaling.
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
        return factors(self.before, self.after)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
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
    """What :func:`demonstrate` returns: numbers, and a picture.

    Parameters
    ----------
    backend, loss, seed
        The framework, the loss that was measured, and the seed of all that is random.
    learned, memorized
        The networks that were trained on true and on random labels.
    certificate
        The metrics under everything in the first network that can be rescaled.
    """

    backend: str
    loss: str
    seed: int
    learned: NetworkResult
    memorized: NetworkResult
    certificate: Certificate

    @property
    def networks(self) -> tuple[NetworkResult, NetworkResult]:
        """The network that learned true labels, and the one that memorized random labels."""
        return self.learned, self.memorized

    @property
    def sharpness_ratio(self) -> float:
        """Normalized sharpness (17) of the network on random labels, over that of the one on true labels."""
        memorized, learned = (n.before["normalized_sharpness"].value for n in (self.memorized, self.learned))
        return ratio(memorized, learned)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and dictionaries."""
        return {
            "backend": self.backend,
            "loss": self.loss,
            "seed": self.seed,
            "sizes": list(SIZES),
            "largest_factor": 10.0**DECADES,
            "sharpness_ratio": self.sharpness_ratio,
            "networks": [network.to_dict() for network in self.networks],
            "certificate": self.certificate.to_dict(),
        }

    def plot(self) -> Figure:
        """Draw what the rescaling does to each metric, and normalized sharpness layer by layer.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        from invariant_sharpness.plotting import new_figure, plot_groups_together, plot_rescalings_together

        figure = new_figure(9.6, 7.6)
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1.25))
        figure.suptitle("Hidden units rescaled: the same function, other parameters", fontsize="x-large")
        plot_rescalings_together({n.name: (n.before, n.after) for n in self.networks}, upper)
        plot_groups_together({n.name: n.before["normalized_sharpness"] for n in self.networks}, lower)
        lower.set_title("normalized_sharpness of each layer, before the rescaling", fontsize="medium", loc="left")
        return figure


def invariant_metrics(metrics: Iterable[str]) -> list[str]:
    """Return those of the metrics that are declared invariant under the rescaling of hidden units."""
    return [
        name for name in metrics if "rows_and_columns" in {symmetry.name for symmetry in METRICS[name].unchanged_by}
    ]


def unconverged(network: NetworkResult) -> Mapping[str, Estimate]:
    """Return the estimates whose iteration did not reach its tolerance, by name and time."""
    times = {"before": network.before, "after": network.after}
    return {f"{name} {time}": e for time, report in times.items() for name, e in report.items() if not e.converged}
