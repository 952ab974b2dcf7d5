"""The errors and the measures of a network of the zoo: metrics of the library, and the battery of Jiang et al. (ICLR 2020) that needs more than an oracle.

The latter stand here and not in the library since they need what no oracle has: the initial weights, the margins of the outputs, and a forward
pass of the network with other weights. Equations are numbered as in the appendix of Jiang et al.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from zoo_data import Images
from zoo_network import SMALL_LOSS, Array, Trained

import invariant_sharpness as ish

METRICS = (
    "hessian_trace",
    "hessian_spectral_norm",
    "matrix_normalized_sharpness",
    "parameter_normalized_sharpness",
    "normalized_sharpness",
    "fisher_rao_norm",
    "relative_flatness",
    "expected_sharpness",
    "average_adaptive_sharpness",
    "worst_case_sharpness",
    "worst_case_adaptive_sharpness",
    "pac_bayes_bound",
    "local_regret",
)

COMPARED = ("hessian_trace", "normalized_sharpness")
"""Measured of the normalized cross-entropy too, equation (20) of Tsuzuku et al., who change the loss and the normalization at once."""

MARGIN_PERCENTILE = 10
ERROR_RISE = 0.1
DRAWS = 5
BISECTIONS = 12


def generalization(trained: Trained, found: Images) -> dict[str, Any]:
    """Errors on training and test data, and their difference, the gap."""
    training, test = (
        float((trained.outputs(x).argmax(axis=1) != y).mean())
        for x, y in ((found.x, found.y), (found.x_test, found.y_test))
    )
    return {
        "epochs": trained.epochs,
        "training_loss": trained.loss,
        "converged": trained.loss <= SMALL_LOSS,
        "diverged": False,
        "training_error": training,
        "test_error": test,
        "gap": test - training,
    }


def measures(trained: Trained, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Every measure by name, with ``name_error`` where it is sampled; larger is meant to be worse."""
    oracle = trained.oracle("cross_entropy")
    report = ish.measure(oracle, list(METRICS))
    found = {name: estimate.value for name, estimate in report.items()}
    errors = {f"{name}_error": e.standard_error for name, e in report.items() if e.standard_error}
    gauss_newton = {"normalized_sharpness_gauss_newton": ish.normalized_sharpness(ish.GaussNewton(oracle)).value}
    return found | errors | gauss_newton | of_normalized_loss(trained) | battery(trained, x, y)


def of_normalized_loss(trained: Trained) -> dict[str, float]:
    """The trace and the normalized sharpness of the normalized cross-entropy."""
    report = ish.measure(trained.oracle("normalized_cross_entropy"), list(COMPARED))
    return {f"{name}_normalized_cross_entropy": estimate.value for name, estimate in report.items()}


def battery(trained: Trained, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Norms, margins, distances from the initial weights, and the noise that the training error bears."""
    weights, initial = trained.weights, trained.initial
    margin = output_margin(trained.outputs(x), y)
    spectral, frobenius = (log_product(weights, kind) for kind in (2, "fro"))
    path = math.nan if trained.squared_outputs is None else float(trained.squared_outputs().sum())
    return {
        "parameter_count": float(trained.parameter_count),
        "inverse_margin": 1 / margin**2 if margin > 0 else math.nan,
        "log_product_of_spectral_norms": spectral,
        "log_product_of_spectral_norms_over_margin": over_margin(spectral, margin),
        "log_product_of_frobenius_norms": frobenius,
        "log_product_of_frobenius_norms_over_margin": over_margin(frobenius, margin),
        "sum_of_frobenius_norms": sum(float((w**2).sum()) for w in weights),
        "frobenius_distance": sum(float(((w - v) ** 2).sum()) for w, v in zip(weights, initial, strict=True)),
        "spectral_distance": sum(spectral_norm(w - v) ** 2 for w, v in zip(weights, initial, strict=True)),
        "path_norm": path,
        "path_norm_over_margin": path / margin**2 if margin > 0 else math.nan,
        "pac_bayes_flatness": 1 / largest_noise(trained, y) ** 2,
    }


def output_margin(outputs: Array, labels: np.ndarray) -> float:
    """The tenth percentile over examples of the true logit less the largest other one."""
    rows = np.arange(len(labels))
    others = outputs.copy()
    others[rows, labels] = -np.inf
    return float(np.percentile(outputs[rows, labels] - others.max(axis=1), MARGIN_PERCENTILE))


def spectral_norm(weight: Array) -> float:
    """Of the weight as a matrix, outputs by all else; for a convolution it is that of the kernel, not of the map of images."""
    return float(np.linalg.norm(weight.reshape(len(weight), -1), 2))


def log_product(weights: Sequence[Array], kind: int | str) -> float:
    """``log prod_l ||W_l||^2``: the logarithm orders networks as the product does, and does not overflow."""
    matrices = [weight.reshape(len(weight), -1) for weight in weights]
    return sum(2 * math.log(np.linalg.norm(matrix, kind)) for matrix in matrices)


def over_margin(log_product_of_squares: float, margin: float) -> float:
    """``log(prod_l ||W_l||^2 / margin^2)``; not defined where the margin is not positive."""
    return log_product_of_squares - 2 * math.log(margin) if margin > 0 else math.nan


def largest_noise(trained: Trained, y: np.ndarray) -> float:
    """The largest sigma of normal noise on all parameters with which the training error rises by at most a tenth, in the mean of five draws.

    Bisected on a logarithmic scale between 1e-5 and 10, with the same draws for every sigma.
    """
    clean = float((trained.perturbed_outputs(lambda _, shape: np.zeros(shape)).argmax(axis=1) != y).mean())
    low, high = math.log(1e-5), math.log(10.0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        rise = np.mean([_noisy_error(trained, y, math.exp(middle), draw) for draw in range(DRAWS)]) - clean
        low, high = (middle, high) if rise <= ERROR_RISE else (low, middle)
    return math.exp(low)


def _noisy_error(trained: Trained, y: np.ndarray, sigma: float, draw: int) -> float:
    def noise(number: int, shape: tuple[int, ...]) -> Array:
        return sigma * np.random.default_rng([draw, number]).standard_normal(shape)

    return float((trained.perturbed_outputs(noise).argmax(axis=1) != y).mean())
