"""What Tsuzuku, Sato and Sugiyama (2019) print, with its errata: each statement once, in numbers.

Equation numbers are theirs; E1 to E9 are the errata of the documentation. References are closed forms,
quadrature and SciPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

import invariant_sharpness as ish
from invariant_sharpness.estimators.diagonal_results import GroupDiagonal
from invariant_sharpness.solvers.rows_columns import solve
from invariant_sharpness.symmetries import UnitRescaling
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from zoo import numpy_problem

Array = Any

FIRST, SECOND = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
FIRST_AFTER, SECOND_AFTER = np.array([[0.1, 0.2], [30.0, 40.0]]), np.array([[50.0, 0.6], [70.0, 0.8]])


def close(value: float, expected: float, what: str, tolerance: float = 1e-12) -> None:
    error = abs(value / expected - 1)
    assert error <= tolerance, f"{what} is {value}, not {expected}: off by {error:.1e}"


def running_example(first: Array = FIRST, second: Array = SECOND) -> NetworkOracle:
    """The network (31) on a few inputs, with cross-entropy."""
    rng = np.random.default_rng(0)
    return NetworkOracle(ReluNetwork((first, second)), 0.1 * rng.normal(size=(20, 2)), rng.integers(0, 2, 20))


class TwoBranches(FunctionOracle):
    """The network (26), ``y = ReLU(W1 x) + ReLU(W2 x)``, with squared error and dense derivatives by hand."""

    def __init__(self, first: Array, second: Array) -> None:
        rng = np.random.default_rng(1)
        self.x, self.t = rng.normal(size=(30, first.shape[1])), rng.normal(size=(30, len(first)))
        super().__init__({"first": first, "second": second}, self._mean, self._slopes, self._products)

    def _inputs(self, p: dict[str, Array]) -> dict[str, Array]:
        """The derivative of each output in its row of weights: x where the unit is active. Shape (n, outputs, inputs)."""
        return {name: (self.x @ W.T > 0)[:, :, None] * self.x[:, None, :] for name, W in p.items()}

    def _residuals(self, p: dict[str, Array]) -> Array:
        return sum(np.maximum(self.x @ W.T, 0) for W in p.values()) - self.t

    def _mean(self, p: dict[str, Array]) -> float:
        return float(np.mean(self._residuals(p) ** 2))

    def _example_slopes(self, p: dict[str, Array]) -> dict[str, Array]:
        factor = 2 * self._residuals(p)[:, :, None] / self.t.shape[1]
        return {name: factor * inputs for name, inputs in self._inputs(p).items()}

    def _slopes(self, p: dict[str, Array]) -> dict[str, Array]:
        return {name: slopes.mean(axis=0) for name, slopes in self._example_slopes(p).items()}

    def _products(self, p: dict[str, Array], v: dict[str, Array]) -> dict[str, Array]:
        inputs = self._inputs(p)
        change = sum(np.einsum("nki,ki->nk", inputs[name], v[name]) for name in p)
        return {name: 2 * np.einsum("nk,nki->ki", change, inputs[name]) / self.t.size for name in p}

    def gradient_second_moment(self, parameters: ish.ParameterVector, /) -> ish.ParameterVector:
        slopes = self._example_slopes(self.to_numpy(parameters))
        return self.from_numpy({name: (s**2).mean(axis=0) for name, s in slopes.items()})

    def directional_second_moment(self, parameters: ish.ParameterVector, direction: ish.ParameterVector, /) -> float:
        slopes = self._example_slopes(self.to_numpy(parameters))
        return float(np.mean(sum((s * direction[name]).sum(axis=(1, 2)) for name, s in slopes.items()) ** 2))


def split_evenly_and_unevenly() -> tuple[TwoBranches, TwoBranches]:
    """(27), and (29)-(30) with a tiny multiple of W for the zero matrix, at which ReLU has no derivative."""
    W, tiny = np.random.default_rng(2).normal(size=(4, 5)), 2.0**-45
    return TwoBranches(W / 2, W / 2), TwoBranches((1 - tiny) * W, tiny * W)


def test_34_to_37_norms_before_the_transformation() -> None:
    close(np.linalg.norm(FIRST), np.sqrt(30), "(34)")
    close(np.linalg.norm(SECOND), np.sqrt(174), "(36)")
    close(np.linalg.norm(SECOND, 2), 13.1900, "(37)", 1e-5)


def test_e1_the_spectral_norm_35_is_5_4650_and_not_5_48() -> None:
    close(np.linalg.norm(FIRST, 2), 5.4650, "(35)", 1e-5)
    close(np.linalg.norm(FIRST), 5.48, "the Frobenius norm, which is what (35) prints,", 1e-3)


def test_38_to_41_are_two_rescalings_of_one_unit_each() -> None:
    oracle = running_example()
    names = [group.name for group in oracle.groups]
    rescaling = UnitRescaling((names[0],), (names[1],))
    once = rescaling.apply(oracle, oracle.parameters, np.array([0.1, 1.0]))
    assert np.allclose(once[names[0]], [[0.1, 0.2], [3, 4]], rtol=1e-15), f"(38) is {once[names[0]]}"
    assert np.allclose(once[names[1]], [[50, 6], [70, 8]], rtol=1e-15), f"(39) is {once[names[1]]}"
    twice = rescaling.apply(oracle, once, np.array([1.0, 10.0]))
    assert np.allclose(twice[names[0]], FIRST_AFTER, rtol=1e-15), f"(40) is {twice[names[0]]}"
    assert np.allclose(twice[names[1]], SECOND_AFTER, rtol=1e-15), f"(41) is {twice[names[1]]}"


def test_42_and_43_norms_after_the_transformation() -> None:
    close(np.linalg.norm(FIRST_AFTER), np.sqrt(2500.05), "(42)")
    close(np.linalg.norm(FIRST_AFTER, 2), 50.0005, "(43)", 1e-6)


def test_e2_the_norms_44_and_45_are_86_0291_and_not_78_11() -> None:
    close(np.linalg.norm(SECOND_AFTER), np.sqrt(7401), "(44)")
    close(np.linalg.norm(SECOND_AFTER, 2), 86.0291, "(45)", 1e-6)
    close(50**2 + 60**2 + 0.6**2 + 0.8**2, 6101, "what (44) prints, with 60 for 70,", 1e-4)


def test_the_running_example_keeps_its_function_and_its_normalized_sharpness_alone() -> None:
    before, after = running_example(), running_example(FIRST_AFTER, SECOND_AFTER)
    close(after.loss(after.parameters), before.loss(before.parameters), "the loss", 1e-13)
    close(ish.normalized_sharpness(after).value, ish.normalized_sharpness(before).value, "(17)", 3e-12)
    for metric in (ish.hessian_trace, ish.matrix_normalized_sharpness):
        ratio = metric(after).value / metric(before).value
        assert abs(ratio - 1) > 0.1, f"{metric.__name__} should see the rescaling, but its ratio is {ratio}"


def test_e3_the_expected_rise_of_the_loss_is_half_the_trace() -> None:
    H = np.array([[3.0, 1.0], [1.0, 2.0]])
    oracle = FunctionOracle(
        {"w": np.zeros(2)},
        lambda p: 0.5 * p["w"] @ H @ p["w"],
        lambda p: {"w": H @ p["w"]},
        lambda _, v: {"w": H @ v["w"]},
    )
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    rise = sum(
        s * t * oracle.loss(oracle.from_numpy({"w": np.array([u, v])}))
        for u, s in zip(nodes, weights, strict=True)
        for v, t in zip(nodes, weights, strict=True)
    ) / (2 * np.pi)
    trace = ish.hessian_trace(oracle).value
    close(rise, trace / 2, "E[L(theta + eps)] - L(theta)")
    assert abs(rise / trace - 1) > 0.4, f"(5) prints the trace {trace} for the rise {rise}"


def test_e3_the_factor_one_half_divides_17_by_the_root_of_2() -> None:
    a, b = np.random.default_rng(3).exponential(size=(2, 5, 4))
    close(solve(a / 2, b).value, solve(a, b).value / np.sqrt(2), "(17) with half the curvature", 3e-12)


@pytest.mark.parametrize("lam", [0.5, 0.8, 3.0])
def test_e4_the_minimum_of_10_has_its_root_inside_the_sum(lam: float) -> None:
    oracle = running_example()
    diagonal, weights = ish.hessian_diagonal(oracle).arrays, oracle.to_numpy(oracle.parameters)
    traces = np.array([h.sum() for h in diagonal.values()])
    norms = np.array([(weights[name] ** 2).sum() for name in diagonal])
    direct = minimize(lambda t: np.sum(traces * np.exp(t) + norms * np.exp(-t) / (2 * lam)), np.zeros(2), tol=1e-10)
    corrected = np.sqrt(2 / lam) * ish.matrix_normalized_sharpness(oracle).value
    close(corrected, direct.fun, "(12) with the root inside the sum", 1e-9)
    printed = np.sqrt(2 / lam * np.sum(np.sqrt(norms * traces)))
    assert abs(printed / direct.fun - 1) > 0.01, f"(12) as printed, {printed}, should not be the minimum {direct.fun}"


def test_11_is_the_minimizer_of_10() -> None:
    norm, trace, lam = 5.0, 0.3, 0.7
    best = minimize_scalar(lambda t: trace * np.exp(t) + norm * np.exp(-t) / (2 * lam), tol=1e-12)
    close(np.exp(best.x), np.sqrt(norm / (2 * lam * trace)), "sigma^2", 1e-6)


def divergence(weights: Array, prior: float, posterior: float) -> float:
    """KL[Q | P] of N(W, posterior) and N(0, prior), by quadrature: the logarithm of the ratio is a polynomial."""
    nodes, shares = np.polynomial.hermite_e.hermegauss(4)
    theta = weights[:, None] + np.sqrt(posterior) * nodes
    ratio = 0.5 * (np.log(prior / posterior) + theta**2 / prior - nodes**2)
    return float((ratio @ shares).sum() / np.sqrt(2 * np.pi))


def test_e5_the_kl_divergence_6_counts_the_entries() -> None:
    weights, prior, posterior = np.array([0.5, -1.0, 2.0, 0.3]), 0.8, 0.3
    k, norm = len(weights), float(weights @ weights)
    formula = k / 2 * np.log(prior / posterior) + (norm + k * posterior) / (2 * prior) - k / 2
    close(divergence(weights, prior, posterior), formula, "KL")


def test_e5_the_best_prior_variance_is_not_that_of_the_posterior() -> None:
    weights, posterior = np.array([0.5, -1.0, 2.0, 0.3]), 0.3
    k, norm = len(weights), float(weights @ weights)
    best = minimize_scalar(lambda t: divergence(weights, np.exp(t), posterior), tol=1e-12)
    close(np.exp(best.x), posterior + norm / k, "the best prior variance", 1e-6)
    close(best.fun, k / 2 * np.log1p(norm / (k * posterior)), "the least KL")
    upper = divergence(weights, posterior, posterior)
    close(upper, norm / (2 * posterior), "(7), KL at equal variances,")
    assert upper > best.fun, f"(7) is an upper bound, but {upper} is not above {best.fun}"


def test_e6_the_two_branches_have_the_same_function() -> None:
    before, after = split_evenly_and_unevenly()
    close(after.loss(after.parameters), before.loss(before.parameters), "the loss", 1e-14)
    step = 1e-6
    direction = before.from_numpy({n: np.random.default_rng(4).normal(size=(4, 5)) for n in ("first", "second")})
    ends = [before.gradient(before.parameters + sign * step * direction) for sign in (1, -1)]
    product = before.hessian_vector_product(before.parameters, direction)
    error = (product - (ends[0] - ends[1]) / (2 * step)).norm() / product.norm()
    assert error < 1e-8, f"the Hessian by hand is off from differences of the gradient by {error:.1e}"


def test_e6_the_diagonal_fisher_rao_norm_25_doubles() -> None:
    before, after = split_evenly_and_unevenly()
    close(ish.fisher_rao_norm(after).value / ish.fisher_rao_norm(before).value, 2, "the ratio of (25)")


def test_e6_the_full_fisher_rao_norm_does_not_change() -> None:
    before, after = (ish.fisher_rao_norm(oracle, form="full").value for oracle in split_evenly_and_unevenly())
    close(after / before, 1, "the ratio of the full form")


@pytest.mark.parametrize("metric", [ish.matrix_normalized_sharpness, ish.normalized_sharpness])
def test_e6_matrix_normalized_and_normalized_sharpness_do_not_change(metric: Any) -> None:
    before, after = (metric(oracle).value for oracle in split_evenly_and_unevenly())
    close(after / before, 1, f"the ratio of {metric.__name__}", 3e-12)


def test_e8_the_moment_generating_function_of_a_loss_in_0_1_is_four_times_smaller() -> None:
    rates, lambdas = np.linspace(0.01, 0.99, 99)[:, None], np.linspace(0.01, 8, 800)
    exponents = np.log(rates * np.exp(-lambdas * (1 - rates)) + (1 - rates) * np.exp(lambdas * rates))
    largest = float(np.max(exponents / lambdas**2))
    close(largest, 1 / 8, "the largest ln E exp(lambda (p - X)) / lambda^2", 1e-5)
    assert largest <= 1 / 8, f"{largest} exceeds Hoeffding's 1/8, and (3) prints 1/2"


def test_e9_lambda_of_one_half_and_of_one_differ_by_the_root_of_2() -> None:
    oracle = running_example()
    half, one = (ish.normalized_sharpness(oracle, lam=lam).value for lam in (0.5, 1.0))
    close(half / one, np.sqrt(2), "the ratio of (17)", 3e-12)
    close(ish.normalized_sharpness(oracle).value, half, "(17) of Algorithm 1", 1e-15)


@pytest.mark.parametrize("metric", [ish.normalized_sharpness, ish.parameter_normalized_sharpness])
@pytest.mark.parametrize("lam", [1e-3, 0.2, 7.0])
def test_17_is_proportional_to_the_root_of_1_over_lambda(metric: Any, lam: float) -> None:
    oracle = numpy_problem.problem("cross_entropy", False).oracle
    close(metric(oracle, lam=lam).value, metric(oracle).value * np.sqrt(0.5 / lam), f"{metric.__name__}", 3e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "normalized_cross_entropy", "mse"])
def test_17_lies_between_one_variance_per_parameter_and_one_per_matrix(loss: str) -> None:
    oracle = numpy_problem.problem(loss, False).oracle
    positive = {
        name: GroupDiagonal(np.clip(h, 0, None), "exact") for name, h in ish.hessian_diagonal(oracle).arrays.items()
    }
    diagonal = ish.HessianDiagonal(positive)
    least = ish.parameter_normalized_sharpness(oracle, diagonal=diagonal).value
    value = ish.normalized_sharpness(oracle, diagonal=diagonal).value
    most = 2 * ish.matrix_normalized_sharpness(oracle, diagonal=diagonal).value
    assert least < value < most, f"{least} < {value} < {most} does not hold"


def test_46_to_58_the_objective_of_17_is_convex_in_the_logarithms_of_the_variances() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.exponential(size=(2, 4, 3))

    def objective(x: Array, y: Array) -> float:
        return float((a * np.exp(x[:, None] + y) + b * np.exp(-x[:, None] - y)).sum())

    for _ in range(200):
        (x, u), (y, v) = rng.normal(size=(2, 4)), rng.normal(size=(2, 3))
        middle, ends = objective((x + u) / 2, (y + v) / 2), (objective(x, y) + objective(u, v)) / 2
        assert middle <= ends, f"{middle} in the middle is above {ends}, the mean of the ends"
