"""Losses of Optax, class probabilities, shifted labels and outputs that are probabilities, on JAX."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError
from invariant_sharpness_jax.losses import resolve_loss
from zoo.jax_networks import Network, random_parameters
from zoo.vectors import assert_close, direction, flat

N, K = 7, 3
RANDOM = np.random.default_rng(0)
X, Z, NUMBERS = RANDOM.normal(size=(N, 4)), 2 * RANDOM.normal(size=(N, K)), RANDOM.normal(size=(N, K))
LABELS, MASSES, SIGNS = RANDOM.integers(0, K, N), RANDOM.random((N, K)), np.sign(RANDOM.normal(size=(N, K)))
CASES: dict[str, tuple[Any, Any]] = {
    "labels": (optax.losses.softmax_cross_entropy_with_integer_labels, LABELS),
    "probabilities": (optax.losses.softmax_cross_entropy, MASSES),
    "one-hot": (optax.losses.safe_softmax_cross_entropy, np.eye(K)[LABELS]),
    "binary": (optax.losses.sigmoid_binary_cross_entropy, MASSES),
    "huber": (partial(optax.losses.huber_loss, delta=0.7), NUMBERS),
    "half of the square": (optax.losses.l2_loss, NUMBERS),
    "square": (optax.losses.squared_error, NUMBERS),
    "logarithm of cosh": (optax.losses.log_cosh, NUMBERS),
    "divergence": (optax.losses.kl_divergence, MASSES),
    "focal": (partial(optax.losses.sigmoid_focal_loss, gamma=1.5), (MASSES > 0.5).astype(float)),
    "hinge": (optax.losses.hinge_loss, SIGNS),
    "poly": (partial(optax.losses.poly_loss_cross_entropy, epsilon=0.5), np.eye(K)[LABELS]),
    "with an axis": (partial(optax.losses.softmax_cross_entropy, axis=-1), MASSES),
}


def of_row(loss: Any) -> Any:
    """The loss of one example as Optax has it, averaged over its outputs where it is one of each."""
    return lambda z, target: jnp.mean(loss(z[None], target[None]))


ALWAYS = ("probabilities", "binary", "divergence")


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if what in ALWAYS else [pytest.mark.slow]) for what in CASES]
)
def test_terms_are_those_of_optax(what: str) -> None:
    loss, targets = CASES[what]
    terms, row = resolve_loss(loss), of_row(loss)
    terms.check(jnp.asarray(Z), jnp.asarray(targets))

    @jax.jit
    def found(z: Any, y: Any) -> Any:
        values, weights = terms.values(z, y)
        gradients, (signs, vectors) = terms.gradient_factors(z, y), terms.curvature_factors(z, y)
        squares = jnp.einsum("ntr,ntkr->nk", gradients.signs, gradients.vectors**2)
        return values, weights, squares, jnp.einsum("ntr,ntkr,ntlr->nkl", signs, vectors, vectors)

    @jax.jit
    def expected(z: Any, y: Any) -> Any:
        gradients, hessians = jax.vmap(jax.grad(row))(z, y), jax.vmap(jax.hessian(row))(z, y)
        return jax.vmap(row)(z, y), jnp.ones(N), gradients**2, hessians

    for name, ours, theirs in zip(
        ("values", "weights", "squares", "Hessians"), found(Z, targets), expected(Z, targets), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["probabilities", "binary", "focal"])
def test_oracle_is_that_of_optax(what: str) -> None:
    loss, targets = CASES[what]
    parameters = random_parameters(sizes=(4, K))
    oracle = ish.oracle(Network().apply, (X, targets), loss=loss, parameters=parameters, batch_size=4)
    vector, structure = jax.flatten_util.ravel_pytree(parameters)

    def mean_loss(at: Any) -> Any:
        return jnp.mean(loss(Network().apply(structure(at), X), targets))

    assert oracle.loss(oracle.parameters) == pytest.approx(float(mean_loss(vector)), rel=1e-12)
    hessian, u = np.asarray(jax.hessian(mean_loss)(vector)), direction(oracle)
    assert_close(flat(oracle.hessian_vector_product(oracle.parameters, u)), hessian @ flat(u), "product")
    names = frozenset(group.name for group in oracle.groups)
    assert_close(flat(oracle.gauss_newton_diagonal(oracle.parameters, names=names)), hessian.diagonal(), "diagonal")
    assert oracle.samples_outputs == (what != "focal")


def test_next_token_cross_entropy_is_that_of_shifted_labels() -> None:
    tokens = RANDOM.integers(0, K, size=(2, 5))
    padded = np.where(np.arange(5) < np.array([[5], [3]]), tokens, -100)
    parameters = {"table": jnp.asarray(RANDOM.normal(size=(K, K)))}

    def apply(tree: Any, x: Any) -> Any:
        return tree["table"][x]

    oracle = ish.oracle(apply, (tokens, padded), loss="next_token_cross_entropy", parameters=parameters, batch_size=1)
    kept = padded[:, 1:] != -100
    rows = optax.losses.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(apply(parameters, tokens)[:, :-1]), np.where(kept, padded[:, 1:], 0)
    )
    assert oracle.loss(oracle.parameters) == pytest.approx(float(np.mean(np.asarray(rows)[kept])), rel=1e-12)


def test_outputs_that_are_probabilities_are_refused() -> None:
    def softmax(parameters: Any, x: Any) -> Any:
        return jax.nn.softmax(Network().apply(parameters, x))

    for loss in ("cross_entropy", "normalized_cross_entropy", optax.losses.softmax_cross_entropy_with_integer_labels):
        with pytest.raises(LossError, match=r"outputs are probabilities.*without its last softmax"):
            ish.oracle(softmax, (X, LABELS), loss=loss, parameters=random_parameters(sizes=(4, K)))


def test_functions_that_take_the_targets_first_are_refused() -> None:
    def poisson(y_true: Any, y_pred: Any) -> Any:
        return jnp.mean(jnp.exp(y_pred) - y_true * y_pred, axis=1)

    for loss in (poisson, partial(poisson)):
        with pytest.raises(LossError, match=r"'poisson' takes \(targets, outputs\)"):
            ish.oracle(Network().apply, (X, MASSES), loss=loss, parameters=random_parameters(sizes=(4, K)))
