"""Operations with a backward pass of their own, which have no forward derivative: the same numbers by reverse passes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint

import invariant_sharpness as ish

jax.config.update("jax_enable_x64", True)

X = np.random.default_rng(0).normal(size=(4, 3))
Y = np.array([0, 1, 1, 0])
PARAMETERS = {"A": np.random.default_rng(1).normal(size=(3, 3)), "B": np.random.default_rng(2).normal(size=(3, 2))}

Model = Callable[[Any, Any], Any]


def own(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function with a backward pass that is written down."""

    @jax.custom_vjp
    def called(z: Any) -> Any:
        return function(z)

    called.defvjp(
        lambda z: (function(z), z), lambda z, cotangent: (cotangent * jax.jvp(function, (z,), (jnp.ones_like(z),))[1],)
    )
    return called


def hidden(activation: Callable[[Any], Any]) -> Model:
    return lambda p, x: activation(x @ p["A"]) @ p["B"]


def repeated(activation: Callable[[Any], Any]) -> Model:
    def apply(p: Any, x: Any) -> Any:
        last, _ = jax.lax.scan(lambda state, _: (activation(state @ p["A"]), None), x, None, length=3)
        return last @ p["B"]

    return apply


def of_one(activation: Callable[[Any], Any]) -> Model:
    def apply(p: Any, x: Any) -> Any:
        return jax.vmap(lambda row: activation(row @ p["A"]))(x) @ p["B"]

    return apply


def flow(p: Any, x: Any) -> Any:
    """The state at time 1 of the linear equation y' = y A, by steps of odeint."""
    return odeint(lambda y, _: y @ p["A"], x, jnp.array([0.0, 1.0]), rtol=1e-10, atol=1e-10)[1] @ p["B"]


def exact_flow(p: Any, x: Any) -> Any:
    return x @ jax.scipy.linalg.expm(p["A"]) @ p["B"]


def gelu(z: Any) -> Any:
    return z * jax.scipy.stats.norm.cdf(z)


MODELS: dict[str, tuple[Model, Model, float]] = {
    "activation": (hidden(own(gelu)), hidden(gelu), 1e-10),
    "scan": (repeated(own(jnp.tanh)), repeated(jnp.tanh), 1e-10),
    "vmap": (of_one(own(gelu)), of_one(gelu), 1e-10),
    "rectifier": (hidden(own(jax.nn.relu)), hidden(jax.nn.relu), 1e-10),
    "odeint": (flow, exact_flow, 1e-6),
}
"""The model, the same one without a backward pass of its own, and how close they are."""


def row_loss(outputs: Any, targets: Any) -> Any:
    return jax.nn.logsumexp(outputs, axis=1) - jnp.take_along_axis(outputs, targets[:, None], axis=1)[:, 0]


def flat_hessian(apply: Model) -> Any:
    flat, unflatten = jax.flatten_util.ravel_pytree(PARAMETERS)
    return jax.hessian(lambda p: jnp.mean(row_loss(apply(unflatten(p), X), Y)))(flat)


def some(names: Iterable[str], *quick: str) -> list[Any]:
    """The names, of which those that take long to compile are in the slow tests."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("what", MODELS)
def test_hessian_is_that_of_the_twin_with_forward_derivatives(what: str) -> None:
    apply, twin, tolerance = MODELS[what]
    oracle = ish.oracle(apply, (X, Y), parameters=PARAMETERS)
    units = np.eye(15)
    vectors = [oracle.from_numpy({"A": u[:9].reshape(3, 3), "B": u[9:].reshape(3, 2)}) for u in units]
    columns = [flat(oracle.hessian_vector_product(oracle.parameters, vector)) for vector in vectors]
    assert np.array(columns) == pytest.approx(np.asarray(flat_hessian(twin)), abs=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("what", MODELS)
def test_values_are_those_of_the_twin_with_forward_derivatives(what: str) -> None:
    apply, twin, tolerance = MODELS[what]
    reports = [ish.measure(ish.oracle(one, (X, Y), parameters=PARAMETERS)) for one in (apply, twin)]
    found, expected = ({name: estimate.value for name, estimate in report.items()} for report in reports)
    assert found == pytest.approx(expected, rel=100 * tolerance)


CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "block": lambda o, p, v: o.hessian_vector_products(p, [v, 2.0 * v])[1],
    "Gauss-Newton product": lambda o, p, v: o.gauss_newton_vector_product(p, v),
    "pushforward": lambda o, p, v: o.jacobian_vector_product(p, v, 4),
    "slopes": lambda o, p, v: o.directional_second_moment(p, v),
    "output curvature": lambda o, p, v: o.output_curvature(p, v, 0)[1],
    "squares": lambda o, p, _: o.gauss_newton_diagonal(p, frozenset({"A"})),
}


@pytest.mark.parametrize("call", some(CALLS, "block", "pushforward"))
def test_every_capability_has_its_value(call: str) -> None:
    apply, twin, tolerance = MODELS["activation"]
    found, expected = (ish.oracle(one, (X, Y), parameters=PARAMETERS) for one in (apply, twin))
    vector = expected.from_numpy({name: np.cos(array) for name, array in PARAMETERS.items()})
    assert flat(CALLS[call](found, found.parameters, vector)) == pytest.approx(
        flat(CALLS[call](expected, expected.parameters, vector)), rel=tolerance, abs=1e-12
    )


def slopes(z: Any, y: Any) -> Any:
    return jax.nn.softmax(z) - jax.nn.one_hot(y, z.shape[1])


own_row_loss = jax.custom_vjp(row_loss)
own_row_loss.defvjp(
    lambda z, y: (row_loss(z, y), (z, y)), lambda kept, cotangent: (cotangent[:, None] * slopes(*kept), None)
)
LOSSES = {
    "rows": (own_row_loss, row_loss),
    "square": (lambda z, y: own(jnp.square)(z[:, 0] - y), lambda z, y: (z[:, 0] - y) ** 2),
}


@pytest.mark.parametrize("what", some(LOSSES, "square"))
def test_loss_with_its_own_backward_pass(what: str) -> None:
    oracles = [ish.oracle(hidden(jnp.tanh), (X, Y), loss, parameters=PARAMETERS) for loss in LOSSES[what]]
    found, expected = (ish.measure(oracle, ["hessian_trace"])["hessian_trace"].value for oracle in oracles)
    assert found == pytest.approx(expected, rel=1e-10)


def of_numpy(z: Any, y: Any) -> Any:
    return jnp.asarray(np.square(np.asarray(z)).sum(axis=1) + np.asarray(y))


UNTRACEABLE: dict[str, Any] = {
    "numbers": lambda z, _: jnp.stack([jnp.asarray(float(row.sum())) for row in z]),
    "items": lambda z, _: jnp.asarray([row.sum().item() for row in z]),
    "NumPy": of_numpy,
    "branches": lambda z, _: z.sum(axis=1) if z.max() < 1e9 else z.sum(axis=1) ** 2,
    "while": lambda z, _: jax.lax.while_loop(lambda s: s.min() < -1, lambda s: 2 * s, 1 + jnp.abs(z.sum(axis=1))),
}


@pytest.mark.parametrize("what", UNTRACEABLE)
def test_loss_that_jax_cannot_differentiate_is_refused_when_the_oracle_is_built(what: str) -> None:
    with pytest.raises(
        ish.errors.LossError, match=r"(?s)JAX cannot differentiate loss '\S+' twice: .*Write it in jax\.numpy"
    ):
        ish.oracle(lambda p, x: x @ p["B"], (X, Y), UNTRACEABLE[what], parameters={"B": PARAMETERS["B"]})


def test_operation_without_two_derivatives_is_still_refused() -> None:
    def apply(p: Any, x: Any) -> Any:
        return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (jnp.tanh(s[0] @ p["A"]), s[1] + 1), (x, 0))[0] @ p["B"]

    with pytest.raises(
        ish.errors.ModelError, match=r"JAX cannot differentiate this model.*lax\.scan for lax\.while_loop"
    ):
        ish.hessian_trace(ish.oracle(apply, (X, Y), parameters=PARAMETERS))


def flat(result: Any) -> Any:
    arrays = result.arrays.values() if isinstance(result, ish.ParameterVector) else [np.asarray(result)]
    return np.concatenate([np.ravel(np.asarray(array)) for array in arrays])
