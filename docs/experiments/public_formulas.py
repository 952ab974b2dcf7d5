"""Measures of sharpness that others defined, each written from its formula as a function of an oracle.

They are for `public_measures.py`, which certifies them. `docs/public_measures.md` says where each comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

import invariant_sharpness as ish
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import JacobianOracle, SubsetOracle, require

Measure = Callable[[ish.CurvatureOracle], float]
Array = Any


def squared_norm(oracle: ish.CurvatureOracle) -> float:
    """Of all parameters, biases too."""
    return oracle.parameters.dot(oracle.parameters)


def trace_over_norm(oracle: ish.CurvatureOracle) -> float:
    """tr H / |w|^2."""
    return ish.hessian_trace(oracle).value / squared_norm(oracle)


def eigenvalue_over_norm(oracle: ish.CurvatureOracle) -> float:
    """The largest eigenvalue of H, over |w|^2."""
    return ish.hessian_spectral_norm(oracle).value / squared_norm(oracle)


def trace_times_norm(oracle: ish.CurvatureOracle) -> float:
    """|w|^2 tr H."""
    return ish.hessian_trace(oracle).value * squared_norm(oracle)


def eigenvalue_times_norm(oracle: ish.CurvatureOracle) -> float:
    """|w|^2 times the largest eigenvalue of H."""
    return ish.hessian_spectral_norm(oracle).value * squared_norm(oracle)


def sam_rise(oracle: ish.CurvatureOracle) -> float:
    """Rise of the loss after the step of SAM, with its radius of 0.05."""
    return rise_after_one_step(oracle, oracle.from_numpy({g.name: np.ones(g.shape) for g in oracle.groups}), 0.05)


def asam_rise_with_eta(oracle: ish.CurvatureOracle) -> float:
    """As in SamsungLabs/ASAM: |w| + 0.01 for names that contain "weight", 1 for all others; radius 0.5."""
    scale = {
        name: np.abs(w) + 0.01 if "weight" in name else np.ones_like(w)
        for name, w in oracle.to_numpy(oracle.parameters).items()
    }
    return rise_after_one_step(oracle, oracle.from_numpy(scale), 0.5)


def asam_rise(oracle: ish.CurvatureOracle) -> float:
    """As in davda54/sam with ``adaptive=True``: |w| for all parameters; radius 2."""
    scale = {name: np.abs(w) for name, w in oracle.to_numpy(oracle.parameters).items()}
    return rise_after_one_step(oracle, oracle.from_numpy(scale), 2.0)


def rise_after_one_step(oracle: ish.CurvatureOracle, scale: ParameterVector, radius: float) -> float:
    """L(w + e) - L(w) with e = radius T^2 g / |T g| for the scale T and the gradient g."""
    w = oracle.parameters
    slope = scale * oracle.gradient(w)
    return oracle.loss(w + (radius / slope.norm()) * (scale * slope)) - oracle.loss(w)


def average_adaptive_rise(oracle: ish.CurvatureOracle) -> float:
    """Mean rise under noise of standard deviation 0.1 |w|, over 20 draws."""
    w = oracle.parameters
    rises = [oracle.loss(w + noise) for noise in _noises(oracle, lambda p: 0.1 * np.abs(p), 20)]
    return float(np.mean(rises)) - oracle.loss(w)


def renyi_sharpness(oracle: ish.CurvatureOracle) -> float:
    """Minus the Rényi entropy of order 2 of the eigenvalues over their sum: log(tr H^2 / (tr H)^2)."""
    return float(2 * np.log(ish.hessian_frobenius_norm(oracle).value / ish.hessian_trace(oracle).value))


def quotient_eigenvalue(oracle: ish.CurvatureOracle) -> float:
    """Of Rangamani et al.: the largest eigenvalue in the metric that divides each parameter tensor by its norm."""
    norms = {name: np.full_like(w, np.linalg.norm(w)) for name, w in oracle.to_numpy(oracle.parameters).items()}
    return ish.hessian_spectral_norm(ish.Scaled(oracle, oracle.from_numpy(norms))).value


def minimum_sharpness(oracle: ish.CurvatureOracle) -> float:
    """Of Ibayashi et al.: the least trace over all rescalings of whole layers, for a chain of layers with biases.

    With a_l as the logarithm of the factor of layer l, weights have the factor of their layer, biases that of all layers up to
    theirs, and the last layer undoes them all.
    """
    traces = np.array([share.value for share in ish.hessian_trace(oracle).per_group.values()])
    layers = len(traces) // 2
    weights, biases = np.eye(layers), np.tril(np.ones((layers, layers)))
    weights[-1], biases[-1] = -1.0, 0.0
    exponents = np.stack([weights, biases], axis=1).reshape(2 * layers, layers)[:, :-1]

    def logarithm(a: Array) -> tuple[float, Array]:
        terms = np.log(traces) - 2 * exponents @ a
        return float(logsumexp(terms)), -2 * exponents.T @ softmax(terms)

    return float(np.exp(minimize(logarithm, np.zeros(layers - 1), jac=True, tol=1e-12).fun))


def layerwise_trace(oracle: ish.CurvatureOracle) -> float:
    """Of the regularizer FAM: |W| tr H of the last weight alone."""
    name = [group.name for group in oracle.groups if group.is_weight][-1]
    return ish.hessian_trace(oracle).per_group[name].value * float(np.linalg.norm(_arrays(oracle)[name]))


def filter_normalized_curvature(oracle: ish.CurvatureOracle) -> float:
    """Mean curvature along 8 directions of Li et al.: Gaussian, as long as each filter; zero for biases and norms."""
    w, total = oracle.parameters, 0.0
    for noise in _noises(oracle, np.ones_like, 8):
        direction = oracle.from_numpy({n: _by_filter(d, _arrays(oracle)[n]) for n, d in oracle.to_numpy(noise).items()})
        total += direction.dot(oracle.hessian_vector_product(w, direction)) / 8
    return total


def pac_bayes_flatness(oracle: ish.CurvatureOracle) -> float:
    """1 / s^2 with the largest s at which noise of standard deviation s^2 costs a tenth of the accuracy."""
    return _inverse_squared_noise(oracle, lambda w, s: np.full_like(w, s**2))


def magnitude_aware_flatness(oracle: ish.CurvatureOracle) -> float:
    """The same with noise of standard deviation s^2 w^2 + 1e-6, as in the released code."""
    return _inverse_squared_noise(oracle, lambda w, s: s**2 * w**2 + 1e-6)


def magnitude_aware_by_variance(oracle: ish.CurvatureOracle) -> float:
    """The same with s^2 w^2 + 1e-6 as the variance."""
    return _inverse_squared_noise(oracle, lambda w, s: np.sqrt(s**2 * w**2 + 1e-6))


def _inverse_squared_noise(oracle: ish.CurvatureOracle, deviation: Callable[..., Array]) -> float:
    """By 15 bisections of (0, 2), each with the mean of 10 draws, until a loss of accuracy between 0.09 and 0.11.

    Accuracy is that against the network's own classes: the same number on data that it classifies without error.
    """
    random, lower, upper, s = np.random.default_rng(0), 0.0, 2.0, 1.0
    examples = require(oracle, SubsetOracle, metric="accuracy").examples
    able = require(oracle, JacobianOracle, metric="accuracy")
    classes = able.outputs(oracle.parameters, examples).argmax(axis=1)
    for _ in range(15):
        s = (lower + upper) / 2
        noises = _noises(oracle, partial(deviation, s=s), 10, random)
        places = (able.outputs(oracle.parameters + noise, examples) for noise in noises)
        lost = 1 - np.mean([outputs.argmax(axis=1) == classes for outputs in places])
        if abs(lost - 0.1) < 1e-2:
            break
        lower, upper = (lower, s) if lost > 0.1 else (s, upper)
    return float(1 / s**2)


def _noises(
    oracle: ish.CurvatureOracle,
    deviation: Callable[[Array], Array],
    count: int,
    random: np.random.Generator | None = None,
) -> Iterator[ParameterVector]:
    """Gaussian draws with the given standard deviation of each parameter."""
    random = random or np.random.default_rng(0)
    for _ in range(count):
        yield oracle.from_numpy({n: deviation(w) * random.normal(size=w.shape) for n, w in _arrays(oracle).items()})


def _by_filter(direction: Array, weight: Array) -> Array:
    if weight.ndim <= 1:
        return np.zeros_like(weight)
    within = tuple(range(1, weight.ndim))
    lengths = [np.sqrt((array**2).sum(axis=within, keepdims=True)) for array in (direction, weight)]
    return direction * lengths[1] / (lengths[0] + 1e-10)


def _arrays(oracle: ish.CurvatureOracle) -> dict[str, Array]:
    return oracle.to_numpy(oracle.parameters)


CLAIMS: dict[Measure, set[str]] = {
    trace_over_norm: {"layer"},
    eigenvalue_over_norm: {"layer"},
    trace_times_norm: set(),
    eigenvalue_times_norm: {"layer"},
    sam_rise: set(),
    asam_rise_with_eta: {"row_column"},
    asam_rise: {"row_column"},
    average_adaptive_rise: {"row_column"},
    renyi_sharpness: set(),
    quotient_eigenvalue: {"layer"},
    minimum_sharpness: {"layer"},
    layerwise_trace: set(),
    filter_normalized_curvature: set(),
    pac_bayes_flatness: set(),
    magnitude_aware_flatness: set(),
    magnitude_aware_by_variance: set(),
}
"""What each is said to survive: rescalings of layers, or of rows and columns. Empty where nothing is said."""
