"""A metric as its author would write it, correct but for one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.testing import Problem, check_metric
from invariant_sharpness.testing.problems import default_problems
from invariant_sharpness_numpy import ReluNetwork

Metric = Callable[[Any], float]
CLAIMS = frozenset({"row_column"})


def adaptive(oracle: ish.CurvatureOracle) -> float:
    """The norm of the gradient in the coordinates theta * phi: correct."""
    return (oracle.parameters * oracle.gradient(oracle.parameters)).norm()


def raw(oracle: ish.CurvatureOracle) -> float:
    """The norm of the gradient: correct, and survives nothing."""
    return oracle.gradient(oracle.parameters).norm()


def added_epsilon(oracle: Any) -> float:
    return ((abs(oracle.parameters).map(lambda a: a + 1e-2)) * oracle.gradient(oracle.parameters)).norm()


def forgotten_bias(oracle: Any) -> float:
    gradient, weights = oracle.gradient(oracle.parameters), [g.name for g in oracle.groups if g.is_weight]
    adapted = (oracle.parameters * gradient).only(weights)
    return (adapted + gradient - gradient.only(weights)).norm()


def filter_norms(oracle: Any) -> float:
    """Rows, and no columns."""
    parameters, gradient = oracle.parameters, oracle.gradient(oracle.parameters)
    names = [group.name for group in oracle.groups if group.is_weight]
    norms = [np.linalg.norm(v[name], axis=1) for name in names for v in (parameters, gradient)]
    return float(sum(np.sum(a * b) for a, b in zip(norms[::2], norms[1::2], strict=True)))


def raw_probe(oracle: Any) -> float:
    """The mean is invariant, the draw is not."""
    parameters, probe = oracle.parameters, prng.signs(oracle, 0, 0)
    product = probe * oracle.hessian_vector_product(parameters, probe)
    return abs((parameters * parameters).dot(product))


def nondeterministic(oracle: Any) -> float:
    return adaptive(oracle) * np.random.default_rng().uniform(1, 1 + 1e-9)


def changing_the_model(oracle: Any) -> float:
    base = getattr(oracle, "base", oracle)
    base.engine._network = ReluNetwork([2 * weight for weight in base.network.weights], base.network.biases)
    return adaptive(oracle)


def of_the_first_example(oracle: Any) -> float:
    return adaptive(oracle) * float(np.linalg.norm(oracle.outputs(oracle.parameters, 1)))


def of_the_batches(oracle: Any) -> float:
    base = getattr(oracle, "base", oracle)
    return adaptive(oracle) * len(list(base._dataset))


def negative(oracle: Any) -> float:
    return -adaptive(oracle)


def overflowing(oracle: Any) -> float:
    """Invariant, where it is a number: what is raised to a power and taken back."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum([np.sum(a**16 / a**16) for a in oracle.parameters.arrays.values()])) + adaptive(oracle)


def of_the_places(oracle: Any) -> float:
    """Units count the more the later they come."""
    product = oracle.parameters * oracle.gradient(oracle.parameters)
    return float(sum(np.sum(np.arange(1, a.size + 1) * np.abs(np.ravel(a))) for a in product.arrays.values()))


def of_the_layout(oracle: Any) -> float:
    """Takes the first axis for that of the outputs, in every framework."""
    product = oracle.parameters * oracle.gradient(oracle.parameters)
    return float(sum(np.abs(np.sum(np.asarray(a), axis=0)).max() for a in product.arrays.values()))


def raising(oracle: Any) -> float:
    return 1 / (len(oracle.groups) - len(oracle.groups))


def networks(claims: frozenset[str] = CLAIMS) -> list[Problem]:
    """The default networks, on NumPy alone."""
    return default_problems("numpy", claims)


def failures(metric: Metric, claims: frozenset[str] = CLAIMS, **options: Any) -> dict[str, str]:
    """The messages of the checks that fail, by their names."""
    given = {"oracles": networks(claims), **options}
    results = check_metric(metric, claims=claims, on_fail="return", **given)
    return {result.check: result.message for result in results if result.status == "failed"}
