"""The oracle in other coordinates: derivatives, invariance value by value, and what it can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.coordinates import balanced, magnitudes
from invariant_sharpness.errors import MissingCapabilityError, NonFiniteError
from invariant_sharpness.protocol import ExampleGradientOracle, GaussNewtonDiagonalOracle, require, supports
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_numpy import FunctionOracle
from zoo import complex_step, numpy_problem
from zoo.vectors import flat

LOSS, BIASES = "cross_entropy", True


def problem() -> numpy_problem.Problem:
    return numpy_problem.problem(LOSS, BIASES)


def positive(seed: int) -> Any:
    return np.random.default_rng(seed).uniform(0.1, 10, problem().theta.size)


def scaled(seed: int = 0) -> tuple[ish.Scaled, Any]:
    """The network in coordinates of random scales, and the scales."""
    s = positive(seed)
    return ish.Scaled(problem().oracle, problem().vector(s)), s


def quadratic() -> FunctionOracle:
    """An oracle of Hessian-vector products alone."""
    curvature = np.array([[2.0, 1.0], [1.0, 3.0]])
    return FunctionOracle(
        {"w": np.array([1.0, -2.0])},
        lambda p: float(p["w"] @ curvature @ p["w"]) / 2,
        lambda p: {"w": curvature @ p["w"]},
        lambda _, v: {"w": curvature @ v["w"]},
    )


def moved_by(exponents: Any) -> ish.Moved:
    """The same function, its hidden units rescaled by ``base ** exponent`` for random exponents."""
    oracle, parameters = problem().oracle, problem().oracle.parameters
    for rescaling in chain_rescalings(oracle.groups):
        parameters = rescaling.apply(oracle, parameters, exponents(unit_count(oracle.groups, rescaling)))
    return ish.Moved(oracle, parameters)


def close(value: Any, expected: Any, what: str, tolerance: float = 1e-13) -> None:
    error = float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))
    assert error <= tolerance, f"{what} is off by {error:.1e}: {value}, not {expected}"


def test_the_loss_is_that_at_s_times_phi() -> None:
    oracle, s = scaled()
    phi = np.random.default_rng(1).normal(size=s.size)
    expected = float(problem().mean_loss((s * phi)[None]).item())
    close(oracle.loss(problem().vector(phi)), expected, "the loss")


def test_the_model_stays_where_it_is() -> None:
    oracle, s = scaled()
    close(flat(oracle.parameters) * s, problem().theta, "s times phi")
    assert oracle.loss(oracle.parameters) == problem().oracle.loss(problem().oracle.parameters), "another loss here"


def test_the_gradient_is_s_times_g() -> None:
    oracle, s = scaled()
    expected = s * complex_step.gradient(problem().mean_loss, problem().theta)
    close(flat(oracle.gradient(oracle.parameters)), expected, "the gradient", 1e-12)


def test_the_hessian_is_s_h_s() -> None:
    oracle, s = scaled()
    expected = s[:, None] * numpy_problem.dense_hessian(LOSS, BIASES) * s
    columns = [oracle.hessian_vector_product(oracle.parameters, problem().vector(e)) for e in np.eye(s.size)]
    close(np.stack([flat(column) for column in columns], axis=1), expected, "the Hessian", 1e-9)


def test_second_moments_and_gauss_newton_diagonal_carry_the_square_of_s() -> None:
    oracle, s = scaled()
    base, here, there = problem().oracle, oracle.parameters, problem().oracle.parameters
    names = frozenset(group.name for group in oracle.groups)
    moments = flat(oracle.gradient_second_moment(here))
    expected = s**2 * (numpy_problem.example_gradients(LOSS, BIASES) ** 2).mean(axis=1)
    close(moments, expected, "the second moments of the gradients", 1e-12)
    diagonal = flat(oracle.gauss_newton_diagonal(here, names))
    close(diagonal, s**2 * flat(base.gauss_newton_diagonal(there, names)), "the Gauss-Newton diagonal")
    u = np.random.default_rng(2).normal(size=s.size)
    slope = oracle.directional_second_moment(here, problem().vector(u))
    close(slope, ((s * u @ numpy_problem.example_gradients(LOSS, BIASES)) ** 2).mean(), "the moment along u", 1e-12)


class Cubic(FunctionOracle):
    """Outputs that bend: the sum of their products with the cotangents is the sum of the cubes of theta."""

    outputs_per_example = 1

    def gauss_newton_diagonal(self, parameters: ish.ParameterVector, /, names: frozenset[str]) -> ish.ParameterVector:
        return parameters.only(names)

    def output_curvature(
        self, parameters: ish.ParameterVector, direction: ish.ParameterVector, /, seed: int
    ) -> tuple[ish.ParameterVector, ish.ParameterVector]:
        return 3.0 * parameters * parameters, 6.0 * parameters * direction


def test_output_curvature_is_that_of_the_same_function() -> None:
    base = Cubic({"w": np.array([1.0, -2.0])}, lambda _: 0.0, dict, lambda _, v: v)
    oracle = ish.Scaled(base, base.from_numpy({"w": np.array([2.0, 4.0])}))
    first, second = oracle.output_curvature(oracle.parameters, base.from_numpy({"w": np.array([1.0, 3.0])}), 0)
    assert np.array_equal(first["w"], [6.0, 48.0]), f"the first derivative is {first['w']}"
    assert np.array_equal(second["w"], [24.0, -576.0]), f"the second derivative is {second['w']}"


def test_scaling_twice_is_scaling_by_the_product() -> None:
    first, second = problem().vector(positive(4)), problem().vector(positive(5))
    twice = ish.Scaled(ish.Scaled(problem().oracle, first), second)
    once = ish.Scaled(problem().oracle, first * second)
    u = problem().vector(positive(6))
    assert supports(twice, GaussNewtonDiagonalOracle), "the inner oracle can, so the outer one can"
    close(flat(twice.parameters), flat(once.parameters), "the parameters")
    products = [flat(o.hessian_vector_product(o.parameters, u)) for o in (twice, once)]
    close(products[0], products[1], "the Hessian-vector product")
    moments = [flat(o.gradient_second_moment(o.parameters)) for o in (twice, once)]
    close(moments[0], moments[1], "the second moment")


@pytest.mark.parametrize("name", ["hessian_trace", "hessian_spectral_norm", "hessian_frobenius_norm"])
@pytest.mark.parametrize("scale", [magnitudes, balanced], ids=lambda s: s.__name__)
def test_raw_measures_in_equivariant_coordinates_ignore_the_scale_of_units(name: str, scale: Any) -> None:
    rng = np.random.default_rng(7)
    here, there = (
        ish.Moved(problem().oracle, problem().oracle.parameters),
        moved_by(lambda n: 10 ** rng.uniform(-4, 4, n)),
    )
    metric = ish.METRICS[name].function
    raw = [metric(oracle, seed=3).value for oracle in (here, there)]
    invariant = [metric(ish.Scaled(oracle, scale(oracle)), seed=3).value for oracle in (here, there)]
    assert abs(raw[1] / raw[0] - 1) > 1, f"the raw {name} hardly moved, from {raw[0]} to {raw[1]}"
    change = abs(invariant[1] / invariant[0] - 1)
    assert change <= 1e-10, f"{name} in the coordinates {scale.__name__} moved by {change:.1e}: {invariant}"


def test_powers_of_two_change_no_bit_in_the_coordinates_of_magnitudes() -> None:
    rng = np.random.default_rng(8)
    here, there = (
        ish.Moved(problem().oracle, problem().oracle.parameters),
        moved_by(lambda n: 2.0 ** rng.integers(-20, 21, n)),
    )
    u = problem().vector(positive(9))
    first, second = (ish.Scaled(oracle, magnitudes(oracle)) for oracle in (here, there))
    for name in ("gradient", "hessian_vector_product"):
        arguments = [(o.parameters,) if name == "gradient" else (o.parameters, u) for o in (first, second)]
        one, two = (flat(getattr(o, name)(*a)) for o, a in zip((first, second), arguments, strict=True))
        assert np.array_equal(one, two), f"{name} differs by {np.abs(one - two).max():.1e}"


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_that_is_not_positive_and_finite_is_refused(bad: float) -> None:
    arrays = {group.name: np.ones(group.shape) for group in problem().oracle.groups}
    last = problem().oracle.groups[-1].name
    arrays[last].flat[0] = bad
    with pytest.raises(NonFiniteError, match=rf"the scale of '{last}' is not positive and finite"):
        ish.Scaled(problem().oracle, problem().oracle.from_numpy(arrays))


@pytest.mark.parametrize("wrap", [ish.Scaled, ish.Moved])
def test_a_wrapped_oracle_can_do_what_the_one_beneath_it_can(wrap: Any) -> None:
    oracle, plain = problem().oracle, quadratic()
    for capability in (GaussNewtonDiagonalOracle, ExampleGradientOracle):
        able, unable = (
            wrap(oracle, oracle.parameters.map(np.ones_like)),
            wrap(plain, plain.parameters.map(np.ones_like)),
        )
        assert isinstance(able, ish.CurvatureOracle), f"{wrap.__name__} is no oracle"
        assert supports(able, capability), f"{wrap.__name__} hides {capability.__name__}"
        assert require(able, capability, metric="test") is able, "require returned another oracle"
        assert not supports(unable, capability), f"{wrap.__name__} pretends to {capability.__name__}"


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: ish.Scaled(o, o.parameters.map(np.ones_like))])
def test_a_missing_capability_is_named_with_what_to_do(wrap: Any) -> None:
    innermost = quadratic()
    with pytest.raises(MissingCapabilityError) as caught:
        ish.fisher_rao_norm(wrap(innermost))
    message = str(caught.value)
    for part in (
        "fisher_rao_norm needs directional_second_moment, gradient_second_moment",
        type(innermost).__name__,
        "Give the oracle the methods of ExampleGradientOracle",
        "Hessian-vector products",
    ):
        assert part in message, f"{part!r} is not in {message!r}"


def test_a_quadratic_has_the_hessian_s_a_s() -> None:
    oracle = ish.Scaled(quadratic(), quadratic().from_numpy({"w": np.array([2.0, 0.5])}))
    columns = [oracle.hessian_vector_product(oracle.parameters, oracle.from_numpy({"w": e}))["w"] for e in np.eye(2)]
    assert np.array_equal(np.stack(columns), [[8.0, 1.0], [1.0, 0.75]]), f"the Hessian is {columns}"
    assert np.array_equal(oracle.parameters["w"], [0.5, -4.0]), f"phi is {oracle.parameters['w']}"
    assert np.array_equal(oracle.gradient(oracle.parameters)["w"], [0.0, -2.5]), "the gradient is not s * A w"
