"""Where a network is sure of a label, no digit is lost: losses, their derivatives and products, against 60 digits; Keras' are in its folder."""

from __future__ import annotations

from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.losses import BinaryCrossEntropy, CrossEntropy
from invariant_sharpness_numpy import ReluNetwork
from zoo.keras_programs.sure_losses import (
    BINARY_LABELS,
    BINARY_LOGITS,
    LOGITS,
    close,
    close_matrix,
    of_classes,
    of_logits,
)


@pytest.fixture(params=[array_api_compat.numpy, array_api_strict], ids=["numpy", "strict"])
def xp(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sure", range(4))
def test_cross_entropy(xp: Any, sure: int, dtype: str) -> None:
    """Of the logits in any order, with the label at the likeliest class and at another."""
    for label in (sure, (sure + 2) % 4):
        z = np.roll(LOGITS, sure)
        value, gradient, hessian = of_classes(z, label)
        given = xp.asarray(z[None], dtype=getattr(xp, dtype)), xp.asarray([label])
        close(CrossEntropy().values(xp, *given), value, dtype, "the loss")
        close(CrossEntropy().gradient(xp, *given)[0, :], gradient, dtype, "the gradient")
        close_matrix(np.asarray(CrossEntropy().hessian(xp, *given))[0], hessian, dtype, "the Hessian")
        units = [xp.asarray(unit[None], dtype=given[0].dtype) for unit in np.eye(4)]
        root = [np.asarray(CrossEntropy().hessian_root_product(xp, *given, unit))[0] for unit in units]
        close_matrix(np.transpose(root) @ root, hessian, dtype, "the root's square")
        (factors,) = np.asarray(CrossEntropy().hessian_factors(xp, *given)[1])
        close_matrix(factors @ factors.T, hessian, dtype, "the factors' square")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy(xp: Any, dtype: str) -> None:
    z, labels = np.array([14.0, -14.0, 30.0, -30.0, 14.0, -14.0]), np.array([1, 0, 1, 0, 0, 1])
    values, slopes, curvatures = of_logits(z, labels)
    given = xp.asarray(z, dtype=getattr(xp, dtype)), xp.asarray(labels, dtype=getattr(xp, dtype))
    close(BinaryCrossEntropy().element_slopes(xp, *given), slopes, dtype, "the slopes")
    close(BinaryCrossEntropy().element_curvatures(xp, *given), curvatures, dtype, "the curvatures")
    error = np.max(np.abs(np.asarray(BinaryCrossEntropy().element_values(xp, *given)) - values))
    assert error <= 30 * np.finfo(dtype).eps, f"the losses are off by {error:.1e}"


def torch_oracle(weights: Any, targets: Any, loss: str) -> Any:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(1, len(weights), bias=False)
    model.weight.data = torch.tensor(weights)
    return ish.oracle(model.eval(), (np.ones((1, 1), weights.dtype), targets), loss=loss)


def jax_oracle(weights: Any, targets: Any, loss: str) -> Any:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    data = np.ones((1, 1), weights.dtype), targets
    return ish.oracle(lambda p, x: x @ p["w"].T, data, parameters={"w": jax.numpy.asarray(weights)}, loss=loss)


def numpy_oracle(weights: Any, targets: Any, loss: str) -> Any:
    return ish.oracle(ReluNetwork((weights,)), (np.ones((1, 1)), targets), loss=loss)


ORACLES = {
    "numpy": (numpy_oracle, ["float64"]),
    "torch": (torch_oracle, ["float64", "float32"]),
    "jax": (jax_oracle, ["float64", "float32"]),
}
"""A linear layer whose outputs on the input 1 are its weights, in the precisions that the backend has."""


@pytest.mark.parametrize("backend", ORACLES)
def test_gradients_and_products_of_cross_entropy_on_every_backend(backend: str) -> None:
    z = np.roll(LOGITS, 1)
    _, gradient, hessian = of_classes(z, 1)
    build, dtypes = ORACLES[backend]
    for dtype in dtypes:
        check(build(z[:, None].astype(dtype), np.array([1]), "cross_entropy"), gradient, hessian, dtype)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_gradients_and_products_of_binary_cross_entropy_on_every_backend(backend: str) -> None:
    z, labels = np.array(BINARY_LOGITS), np.array([BINARY_LABELS], dtype=float)
    _, slopes, curvatures = of_logits(z, labels[0])
    build, dtypes = ORACLES[backend]
    for dtype in dtypes:
        oracle = build(z[:, None].astype(dtype), labels, "binary_cross_entropy")
        check(oracle, slopes / 4, np.diag(curvatures) / 4, dtype)


def check(oracle: Any, gradient: Any, hessian: Any, dtype: str) -> None:
    """The gradient, and the products with all unit vectors."""
    point = oracle.parameters
    (name, weights), *_ = oracle.to_numpy(point).items()
    close(oracle.to_numpy(oracle.gradient(point))[name].ravel(), gradient, dtype, "the gradient")
    units = [oracle.from_numpy({name: unit.reshape(weights.shape)}) for unit in np.eye(weights.size)]
    for product in (oracle.hessian_vector_product, oracle.gauss_newton_vector_product):
        columns = [oracle.to_numpy(product(point, unit))[name].ravel() for unit in units]
        close_matrix(np.stack(columns, axis=1), hessian, dtype, "the Hessian")
