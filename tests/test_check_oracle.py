"""The checks of oracles: correct ones pass, and each kind of mistake is found by the check that is meant for it."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import ParameterVector
from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.testing import (
    CHECKS,
    CheckFailedError,
    check_additivity,
    check_model_untouched,
    check_oracle,
)
from invariant_sharpness_numpy import FunctionOracle, NetworkOracle, ReluNetwork
from numpy_problem import problem, random_data, random_network


class Mutant:
    """A correct oracle but for what is given: methods by name, each a function of the correct oracle and the arguments."""

    def __init__(self, base: Any, **changes: Callable[..., Any]) -> None:
        self._base = base
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        if name in self._changes:
            return lambda *arguments, **options: self._changes[name](self._base, *arguments, **options)
        return getattr(self._base, name)


class Regrouped(Mutant):
    """A correct oracle whose groups are described otherwise."""

    def __init__(self, base: Any, group: str, /, **changes: Any) -> None:
        super().__init__(base)
        self.groups = tuple(replace(g, **changes) if g.name == group else g for g in base.groups)


def base() -> NetworkOracle:
    return problem("cross_entropy", biases=True).oracle


def failures(oracle: Any, seed: int = 0) -> dict[str, str]:
    return {r.check: r.message for r in check_oracle(oracle, seed=seed, on_fail="return") if r.status == "failed"}


def assert_no_failure(oracle: Any, seed: int) -> None:
    found = failures(oracle, seed)
    assert not found, f"a correct oracle fails with seed {seed}: {found}"


def with_part(vector: ParameterVector, name: str, change: Callable[[Any], Any]) -> ParameterVector:
    return ParameterVector(vector.xp, {k: change(a) if k == name else a for k, a in vector.arrays.items()})


def skewed(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    """``H + K`` with K antisymmetric and a hundredth as large."""
    first, second = oracle.groups[0].name, oracle.groups[2].name
    product = oracle.hessian_vector_product(p, v)
    return with_part(product, first, lambda a: a + 0.01 * float(np.sum(v[second])))


def symmetric_but_wrong(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    """One diagonal block is 1 % too large."""
    name = oracle.groups[0].name
    return oracle.hessian_vector_product(p, v) + 0.01 * oracle.hessian_vector_product(p, v.only([name])).only([name])


def without_bias(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    kept = [group.name for group in oracle.groups][:-1]
    return oracle.hessian_vector_product(p, v.only(kept)).only(kept)


def finite_difference(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    step = 1e-4
    return (oracle.gradient(p + step * v) - oracle.gradient(p - step * v)) / (2 * step)


def careless(oracle: Any, p: ParameterVector) -> ParameterVector:
    p[oracle.groups[0].name][...] *= 1.5
    return oracle.gradient(p)


def in_place_on_direction(oracle: Any, p: ParameterVector, v: ParameterVector) -> ParameterVector:
    product = oracle.hessian_vector_product(p, v)
    v[oracle.groups[0].name][...] = 0.0
    return product


def noisy() -> Callable[..., float]:
    random = np.random.default_rng(0)
    return lambda oracle, p: oracle.loss(p) + 1e-12 * float(random.normal())


def remembering() -> Callable[..., ParameterVector]:
    """Equal calls in a row agree; a call for another point leaves a mark."""
    seen: dict[str, float] = {}

    def gradient(oracle: Any, p: ParameterVector) -> ParameterVector:
        mark = p.norm()
        drift = 0.0 if seen.get("last", mark) == mark else 1e-9
        seen["last"] = mark
        return oracle.gradient(p) * (1 + drift)

    return gradient


def wrong_diagonal(oracle: Any, p: ParameterVector, names: frozenset[str]) -> ParameterVector:
    return 1.01 * oracle.gauss_newton_diagonal(p, names)


def unrestricted_diagonal(oracle: Any, p: ParameterVector, _names: frozenset[str]) -> ParameterVector:
    return oracle.gauss_newton_diagonal(p, frozenset(group.name for group in oracle.groups))


def batch_moment(oracle: Any, p: ParameterVector, u: ParameterVector) -> float:
    return oracle.gradient(p).dot(u) ** 2


def without_outputs() -> Any:
    oracle = Mutant(base())
    oracle.outputs_per_example = 0
    return oracle


MUTANTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gradient 1 % too large": ("check_gradient", lambda: Mutant(base(), gradient=lambda o, p: 1.01 * o.gradient(p))),
    "gradient without a group": (
        "check_gradient",
        lambda: Mutant(base(), gradient=lambda o, p: o.gradient(p).only([g.name for g in o.groups][:-1])),
    ),
    "gradient always at the model's parameters": (
        "check_gradient",
        lambda: Mutant(base(), gradient=lambda o, _: o.gradient(o.parameters)),
    ),
    "asymmetric product": ("check_symmetry", lambda: Mutant(base(), hessian_vector_product=skewed)),
    "symmetric but wrong product": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=symmetric_but_wrong),
    ),
    "product that forgets a group": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=without_bias),
    ),
    "product always at the model's parameters": (
        "check_second_derivative",
        lambda: Mutant(base(), hessian_vector_product=lambda o, _, v: o.hessian_vector_product(o.parameters, v)),
    ),
    "product by differences": ("check_linearity", lambda: Mutant(base(), hessian_vector_product=finite_difference)),
    "diagonal 1 % too large": (
        "check_gauss_newton_diagonal",
        lambda: Mutant(base(), gauss_newton_diagonal=wrong_diagonal),
    ),
    "block in another order": (
        "check_block_products",
        lambda: Mutant(base(), hessian_vector_products=lambda o, p, v: o.hessian_vector_products(p, v)[::-1]),
    ),
    "curvature product 1 % too large": (
        "check_gauss_newton_product",
        lambda: Mutant(base(), gauss_newton_vector_product=lambda o, p, v: 1.01 * o.gauss_newton_vector_product(p, v)),
    ),
    "curvature product that is not symmetric": (
        "check_gauss_newton_product",
        lambda: Mutant(base(), gauss_newton_vector_product=skewed),
    ),
    "Jacobian product without a group": (
        "check_jacobian",
        lambda: Mutant(
            base(),
            jacobian_vector_product=lambda o, p, v, n: o.jacobian_vector_product(
                p, v.only([g.name for g in o.groups][:-1]), n
            ),
        ),
    ),
    "transposed product that is a mean": (
        "check_jacobian",
        lambda: Mutant(base(), vector_jacobian_product=lambda o, p, c: o.vector_jacobian_product(p, c) / len(c)),
    ),
    "Jacobian product of other examples": (
        "check_jacobian",
        lambda: Mutant(
            base(), jacobian_vector_product=lambda o, p, v, n: o.jacobian_vector_product(p, v, n)[::-1].copy()
        ),
    ),
    "gradient that changes its argument": ("check_purity", lambda: Mutant(base(), gradient=careless)),
    "product that changes its argument": (
        "check_purity",
        lambda: Mutant(base(), hessian_vector_product=in_place_on_direction),
    ),
    "loss with noise": ("check_determinism", lambda: Mutant(base(), loss=noisy())),
    "gradient with a memory": ("check_determinism", lambda: Mutant(base(), gradient=remembering())),
    "directional moment of the mean": (
        "check_second_moments",
        lambda: Mutant(base(), directional_second_moment=batch_moment),
    ),
    "moments too small": (
        "check_second_moments",
        lambda: Mutant(
            base(),
            directional_second_moment=lambda o, p, u: 1e-6 * o.directional_second_moment(p, u),
            gradient_second_moment=lambda o, p: 1e-6 * o.gradient_second_moment(p),
        ),
    ),
    "loss that is no number": ("check_finite", lambda: Mutant(base(), loss=lambda _o, _p: float("nan"))),
    "no outputs": ("check_finite", without_outputs),
    "gradient in single precision": (
        "check_vectors",
        lambda: Mutant(base(), gradient=lambda o, p: o.gradient(p).map(lambda a: a.astype(np.float32))),
    ),
    "gradient in another order": (
        "check_vectors",
        lambda: Mutant(
            base(), gradient=lambda o, p: ParameterVector(o.xp, dict(reversed(o.gradient(p).arrays.items())))
        ),
    ),
    "host arrays that are views": ("check_round_trip", lambda: Mutant(base(), to_numpy=lambda _, v: dict(v.arrays))),
    "from_numpy that rounds": (
        "check_round_trip",
        lambda: Mutant(base(), from_numpy=lambda o, a: o.from_numpy({k: np.round(v, 3) for k, v in a.items()})),
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "biases"),
    [*itertools.product(["cross_entropy", "normalized_cross_entropy", "mse"], [False, True])],
)
def test_numpy_networks_pass(loss: str, biases: bool, seed: int) -> None:
    assert_no_failure(problem(loss, biases).oracle, seed)


@pytest.mark.parametrize("seed", range(3))
def test_oracles_in_other_coordinates_and_elsewhere_pass(seed: int) -> None:
    oracle = base()
    scale = oracle.from_numpy({g.name: np.full(g.shape, 2.0 ** (5 * n - 9)) for n, g in enumerate(oracle.groups)})
    assert_no_failure(ish.Scaled(oracle, scale), seed)
    assert_no_failure(ish.Moved(oracle, 1.25 * oracle.parameters), seed)


def test_every_check_says_something_about_a_complete_oracle() -> None:
    found = {result.check: result.status for result in check_oracle(base())}
    assert found == dict.fromkeys(CHECKS, "passed"), f"not all passed: {found}"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", MUTANTS)
def test_mistake_is_found_by_its_check(name: str, seed: int) -> None:
    check, mutant = MUTANTS[name]
    found = failures(mutant(), seed)
    assert check in found, f"{name}: {check} did not fail; those that failed: {found}"


def test_diagonal_that_ignores_the_names_is_found() -> None:
    def partly_bent(oracle: Any, p: ParameterVector, u: ParameterVector, seed: int) -> Any:
        first, second = oracle.output_curvature(p, u, seed)
        return first, with_part(second, oracle.groups[0].name, np.ones_like)

    found = failures(Mutant(base(), gauss_newton_diagonal=unrestricted_diagonal, output_curvature=partly_bent))
    assert "is not zero in" in found.get("check_gauss_newton_diagonal", ""), f"only {found}"


def test_false_certificate_is_found() -> None:
    """A tanh layer is not affine: with an output curvature of zero, its Gauss-Newton diagonal passes for exact."""
    oracle = tanh_oracle(certified=True)
    assert "check_gauss_newton_diagonal" in failures(oracle), f"only {failures(oracle)}"
    assert_no_failure(tanh_oracle(certified=False), seed=0)


def tanh_oracle(*, certified: bool) -> Any:
    """The output ``tanh(w . x)`` under a squared error, with a Gauss-Newton diagonal and, if asked, a false certificate."""
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.linspace(-2, 2, 20)

    def parts(p: Any) -> tuple[Any, Any, Any]:
        z = np.tanh(x @ p["w"])
        return z - y, 1 - z**2, -2 * z * (1 - z**2)

    def gradient(p: Any) -> Any:
        r, d, _ = parts(p)
        return {"w": (r * d) @ x / len(x)}

    def product(p: Any, v: Any) -> Any:
        r, d, dd = parts(p)
        return {"w": ((d**2 + r * dd) * (x @ v["w"])) @ x / len(x)}

    def loss(p: Any) -> float:
        return float(np.mean(parts(p)[0] ** 2) / 2)

    def curvature(o: Any, p: Any, u: Any, _seed: int) -> Any:
        d, dd = parts(p)[1:]
        first, second = {"w": d @ x}, {"w": (dd * (x @ u["w"])) @ x}
        return o.from_numpy(first), o.from_numpy(second) * (0.0 if certified else 1.0)

    plain = FunctionOracle({"w": np.array([0.5, -1, 0.3])}, loss, gradient, product)
    oracle = Mutant(
        plain,
        output_curvature=curvature,
        gauss_newton_diagonal=lambda o, p, _: o.from_numpy({"w": (parts(p)[1] ** 2) @ x**2 / len(x)}),
    )
    oracle.outputs_per_example = 1
    return oracle


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_axes": (2,)}, "has the axis 2, but with shape"),
        ({"input_axes": (0,)}, "no axis counts both"),
        ({"output_axes": (), "input_axes": (1,)}, "has no output axes"),
        ({"output_axes": (1,), "input_axes": (0,)}, "its owner .* has 4 output units: are its axes right"),
        ({"role": "kernel"}, "has the role 'kernel', but the roles are matrix"),
        ({"shape": (4, 5)}, "shape"),
        ({"channel_groups": 2}, "channel groups, which do not divide"),
        ({"name": "other"}, "the parameters are"),
    ],
)
def test_group_that_is_described_wrongly_is_found(changes: dict[str, Any], message: str) -> None:
    found = failures(Regrouped(base(), base().groups[0].name, **changes))
    text = f"{found.get('check_groups')} {found.get('check_vectors')}"
    assert re.search(message, text), f"{message!r} is not in {text!r}"


def test_single_precision_noise_is_no_failure() -> None:
    """Every result of a correct oracle is rounded to single precision, as are its parameters."""
    oracle = Mutant(base(), **{name: in_single_precision(name) for name in ROUNDED})
    oracle.parameters = base().parameters.map(np.float32)
    for seed in range(5):
        assert_no_failure(oracle, seed)


OPTIONAL = {
    "check_block_products",
    "check_gauss_newton_diagonal",
    "check_gauss_newton_product",
    "check_jacobian",
    "check_second_moments",
}

ROUNDED = {
    "loss",
    "hessian_vector_products",
    "gradient",
    "hessian_vector_product",
    "gauss_newton_diagonal",
    "gauss_newton_vector_product",
    "jacobian_vector_product",
    "vector_jacobian_product",
    "outputs",
    "gradient_second_moment",
    "directional_second_moment",
    "output_curvature",
    "from_numpy",
}


def in_single_precision(name: str) -> Callable[..., Any]:
    def rounded(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(map(rounded, value))
        if isinstance(value, np.ndarray):
            return value.astype(np.float32).astype(np.float64)
        return value.map(np.float32) if isinstance(value, ParameterVector) else float(np.float32(value))

    return lambda oracle, *arguments, **options: rounded(getattr(oracle, name)(*arguments, **options))


def test_failure_is_raised_with_its_name_and_figures() -> None:
    with pytest.raises(CheckFailedError, match=r"^check_gradient: gradient\(p\) is not the derivative") as caught:
        check_oracle(MUTANTS["gradient 1 % too large"][1]())
    error = caught.value.figures["relative_error"]
    assert error == pytest.approx(0.01, rel=0.05), f"the gradient is 1 % off, but the error is {error}"


def test_check_is_a_function_that_can_be_called_alone() -> None:
    figures = CHECKS["check_symmetry"](base(), 0)
    assert figures["asymmetry"] < 1e-12, f"{figures}"


def test_oracle_that_raises_has_failed() -> None:
    def broken(*_: Any) -> Any:
        raise NonFiniteError("all is lost")

    found = failures(Mutant(base(), hessian_vector_product=broken))
    assert "the oracle raised NonFiniteError: all is lost" in found["check_symmetry"], f"{found}"


def test_missing_capabilities_are_skipped_with_a_reason() -> None:
    oracle = FunctionOracle(
        {"w": [1.0]}, lambda p: float(p["w"][0] ** 2), lambda p: {"w": 2 * p["w"]}, lambda _, v: {"w": 2 * v["w"]}
    )
    skipped = {r.check: r.message for r in check_oracle(oracle) if r.status == "skipped"}
    assert skipped.keys() == OPTIONAL, f"{skipped}"
    assert all(skipped.values()), f"a reason is missing: {skipped}"


def test_constant_loss_is_skipped_not_failed() -> None:
    zero = {"w": np.zeros(2)}
    oracle = FunctionOracle({"w": [1.0, 2.0]}, lambda _: 3.0, lambda _: zero, lambda _p, _v: zero)
    assert_no_failure(oracle, seed=0)


def test_result_prints_as_one_line_and_goes_to_json() -> None:
    results = check_oracle(MUTANTS["asymmetric product"][1](), on_fail="return")
    for result in results:
        assert "\n" not in str(result), f"more than one line: {result}"
        assert json.loads(json.dumps(result.to_dict()))["check"] == result.check
    (failed,) = [r for r in results if r.check == "check_symmetry"]
    assert str(failed).startswith("check_symmetry failed (asymmetry "), f"{failed}"


def test_unknown_way_to_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="on_fail='ignore'"):
        check_oracle(base(), on_fail="ignore")  # type: ignore[arg-type]


def test_importing_the_checks_loads_no_test_framework() -> None:
    program = "import sys, invariant_sharpness.testing; print(*{n.split('.')[0] for n in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split()) & {"pytest", "hypothesis", "torch", "jax", "tensorflow", "sklearn"}
    assert not loaded, f"importing the checks loads {loaded}"


def parts_of(loss: str, cut: int) -> tuple[list[NetworkOracle], NetworkOracle]:
    network, (x, y) = random_network(biases=True), random_data(loss)
    parts = [NetworkOracle(network, x[part], y[part], loss) for part in (slice(None, cut), slice(cut, None))]
    return parts, NetworkOracle(network, x, y, loss, batch_size=3)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_mean_over_the_data_is_additive(loss: str) -> None:
    parts, whole = parts_of(loss, 4)
    figures = check_additivity(parts, [4, 7], whole)
    assert max(figures.values()) < 1e-12, f"{figures}"


def test_mean_of_means_is_found() -> None:
    parts, whole = parts_of("cross_entropy", 4)
    with pytest.raises(CheckFailedError, match="loss of the whole differs by"):
        check_additivity(parts, [1, 1], whole)


def test_parts_without_weights_are_refused() -> None:
    parts, whole = parts_of("cross_entropy", 4)
    with pytest.raises(ValueError, match="2 oracles and 1 weights"):
        check_additivity(parts, [1], whole)


class Borrowed:
    """An oracle that writes the parameters that it is given into the user's model, as many adapters have to."""

    def __init__(self, *, careful: bool) -> None:
        network = random_network(biases=True)
        self.weight = np.array(network.weights[0])
        self._base = NetworkOracle(network, *random_data("cross_entropy"))
        self._careful = careful

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def gradient(self, p: ParameterVector) -> ParameterVector:
        first = self._base.groups[0].name
        before = self.weight.copy()
        try:
            self.weight[...] = p[first]
            result = self._base.gradient(p)
            if not self._careful:
                self.weight[...] = before
            return result
        finally:
            if self._careful:
                self.weight[...] = before

    def snapshot(self) -> dict[str, bytes]:
        return {"weight": self.weight.tobytes()}


def test_model_that_is_put_back_in_a_finally_clause_is_untouched() -> None:
    oracle = Borrowed(careful=True)
    figures = check_model_untouched(oracle.snapshot, oracle)
    assert figures["endings"] > 50, f"only {figures}"


def test_model_that_is_put_back_only_after_success_is_found() -> None:
    oracle = Borrowed(careful=False)
    with pytest.raises(CheckFailedError, match=r"gradient left the model changed after .* \(weight\)"):
        check_model_untouched(oracle.snapshot, oracle)


def test_numpy_network_is_untouched() -> None:
    network = ReluNetwork.initialize((4, 5, 3), seed=0)
    oracle = ish.oracle(network, random_data("cross_entropy"))
    check_model_untouched(lambda: [w.tobytes() for w in network.weights], oracle)
