"""What the tests of perturbed losses share: quadratic losses at any point, their maxima in a ball, and a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

import invariant_sharpness as ish
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_numpy import FunctionOracle
from zoo import numpy_problem
from zoo.complex_step import outputs


def quadratic(gradient: Any, hessian: Any, loss: float = 0.5, point: Any = None) -> FunctionOracle:
    """``loss + g.d + d.H d / 2`` for the distance d from the parameters, which are 1, 2, ... by default."""
    theta = np.arange(1.0, len(gradient) + 1) if point is None else point
    return FunctionOracle(
        {"w": theta},
        lambda p: float(loss + gradient @ (p["w"] - theta) + (p["w"] - theta) @ hessian @ (p["w"] - theta) / 2),
        lambda p: {"w": gradient + hessian @ (p["w"] - theta)},
        lambda _, v: {"w": hessian @ v["w"]},
    )


def random_quadratic(seed: int, size: int = 6) -> tuple[Any, Any]:
    """A gradient, and an indefinite Hessian whose largest eigenvalue has the largest magnitude."""
    random = np.random.default_rng(seed)
    U = np.linalg.qr(random.normal(size=(size, size)))[0]
    return random.normal(size=size), (U * np.linspace(-1, 3, size)) @ U.T


def maximum_in_ball(gradient: Any, hessian: Any, radius: float) -> float:
    """Of ``g.d + d.H d / 2``, from the secular equation: (m I - H) d = g with m above all eigenvalues and |d| = radius."""
    values, vectors = np.linalg.eigh(hessian)
    c = vectors.T @ gradient
    start, end = max(values.max(), 0.0), values.max() + np.linalg.norm(c) / radius + 1
    multiplier = brentq(lambda m: np.linalg.norm(c / (m - values)) - radius, start + 1e-13, end, xtol=1e-15)
    d = c / (multiplier - values)
    return float(c @ d + np.sum(values * d**2) / 2)


def problem() -> numpy_problem.Problem:
    return numpy_problem.problem("cross_entropy", biases=True)


def rescaled(oracle: ish.CurvatureOracle, seed: int = 0) -> ish.Moved:
    """The same function, every hidden unit multiplied by a power of two."""
    random, parameters = np.random.default_rng(seed), oracle.parameters
    for rescaling in chain_rescalings(oracle.groups):
        factors = 2.0 ** random.integers(-6, 7, unit_count(oracle.groups, rescaling))
        parameters = rescaling.apply(oracle, parameters, factors)
    return ish.Moved(oracle, parameters)


def factors(before: ish.ParameterVector, after: ish.ParameterVector) -> ish.ParameterVector:
    """What every parameter was multiplied by."""
    return after / before


def with_zeros() -> tuple[ish.Moved, Any]:
    """The network with every third parameter exactly zero, and these parameters as one array."""
    theta = problem().theta.copy()
    theta[::3] = 0.0
    return ish.Moved(problem().oracle, problem().vector(theta)), theta


def plain_loss(theta: Any) -> float:
    """The mean cross-entropy at one point, by NumPy alone."""
    p = problem()
    z = outputs(numpy_problem.SIZES, theta[None], p.x, biases=True)[0]
    return float(np.mean(logsumexp(z, axis=1) - z[np.arange(len(p.y)), p.y]))
