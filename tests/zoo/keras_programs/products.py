"""Products with the Gauss-Newton matrix and with the outputs' Jacobian, against dense ones in closed form."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from closed_form import gauss_newton, outputs_and_jacobian
from keras import layers
from keras_problems import convolutional_oracle, inputs, labels, perceptron, perceptron_oracle, relu_network

import invariant_sharpness as ish
from invariant_sharpness import prng
from invariant_sharpness.losses import CrossEntropy, NormalizedCrossEntropy, OutputLoss, SquaredError
from invariant_sharpness_keras import backend

EXAMPLES = 6
"""More than a batch, and not a multiple of it."""

MANY = 9


def gauss_newton_product() -> dict[str, dict[str, float]]:
    """For each loss: the relative error of a product, and the least eigenvalue relative to the largest."""
    weighted = CrossEntropy(class_weights=(1.0, 2.0, 0.5), ignore_index=2)
    cases: dict[str, tuple[Any, OutputLoss, Any]] = {
        "cross_entropy": (perceptron_oracle(), CrossEntropy(), labels()),
        "normalized_cross_entropy": (perceptron_oracle("normalized_cross_entropy"), NormalizedCrossEntropy(), labels()),
        "mse": (perceptron_oracle("mse"), SquaredError(), inputs(11, 3)),
        "weighted": (
            backend.oracle(perceptron(), (inputs(), labels()), loss=weighted, batch_size=4),
            weighted,
            labels(),
        ),
    }
    found = {}
    for name, (oracle, loss, targets) in cases.items():
        G = gauss_newton(relu_network(), inputs(), targets, loss)
        v = prng.uniform(oracle, 0, 0)
        product = oracle.gauss_newton_vector_product(oracle.parameters, v)
        eigenvalues = np.linalg.eigvalsh(G)
        found[name] = {"error": error(flat(product), G @ flat(v)), "least": float(eigenvalues[0] / eigenvalues[-1])}
    return found


def products_of_the_perceptron() -> dict[str, dict[str, float]]:
    """Relative errors of all products, also in coordinates of random scales."""
    base = perceptron_oracle()
    scale = base.from_numpy({g.name: 2 + np.sin(np.arange(g.size)).reshape(g.shape) for g in base.groups})
    return {"raw": errors_of_products(base), "scaled": errors_of_products(ish.Scaled(base, scale), flat(scale))}


def errors_of_products(oracle: Any, scale: Any = 1.0) -> dict[str, float]:
    """Relative errors of ``G v``, of outputs, ``J v`` and ``J^T c``, where examples do not fill their batches."""
    z, J = (rows[:EXAMPLES] for rows in outputs_and_jacobian(relu_network(), inputs()))
    G = gauss_newton(relu_network(), inputs(), labels(), CrossEntropy())
    p, v, c = oracle.parameters, prng.uniform(oracle, 0, 0), prng.cotangents(0, z.shape)
    return {
        "G v": error(flat(oracle.gauss_newton_vector_product(p, v)), scale * (G @ (scale * flat(v)))),
        "outputs": error(oracle.outputs(p, EXAMPLES), z),
        "J v": error(oracle.jacobian_vector_product(p, v, EXAMPLES), J @ (scale * flat(v))),
        "J^T c": error(flat(oracle.vector_jacobian_product(p, c)), scale * np.einsum("nkp,nk->p", J, c)),
    }


def block_of_products() -> dict[str, Any]:
    """More products than are compiled together: their number, and the worst error against the NumPy backend."""
    mine, reference = perceptron_oracle(), ish.oracle(relu_network(), (inputs(), labels()), "cross_entropy")
    vectors = [prng.uniform(mine, 0, k) for k in range(MANY)]
    products = mine.hessian_vector_products(mine.parameters, vectors)
    expected = [reference.hessian_vector_product(reference.parameters, in_numpy(reference, v)) for v in vectors]
    errors = [error(flat(in_numpy(reference, a)), flat(b)) for a, b in zip(products, expected, strict=True)]
    return {"products": len(products), "error": max(errors)}


def in_numpy(reference: Any, vector: ish.ParameterVector) -> ish.ParameterVector:
    """The same vector in the layout of the NumPy backend, whose matrices are transposed."""
    arrays = zip(reference.groups, vector.arrays.values(), strict=True)
    return reference.from_numpy({group.name: np.asarray(array, dtype=np.float64).T for group, array in arrays})


def adjoint_products() -> dict[str, list[float]]:
    """``c . J v`` and ``v . J^T c`` of a convolutional network, and ``v . G u`` and ``u . G v``."""
    oracle = convolutional_oracle()
    p, u, v = oracle.parameters, prng.uniform(oracle, 0, 0), prng.uniform(oracle, 0, 1)
    Jv = oracle.jacobian_vector_product(p, v, EXAMPLES)
    c = prng.cotangents(0, Jv.shape)
    Gu, Gv = (oracle.gauss_newton_vector_product(p, w) for w in (u, v))
    return {
        "J": [float(np.sum(c * Jv)), oracle.vector_jacobian_product(p, c).dot(v)],
        "G": [v.dot(Gu), u.dot(Gv)],
    }


def rows_of_examples() -> dict[str, Any]:
    """Shapes, and the errors for outputs of two lengths and for cotangents that do not fit."""
    oracle = perceptron_oracle()
    tokens = keras.Sequential([keras.Input((None, 5)), layers.Dense(3)])
    batches = [(inputs(2, length, 5), np.zeros((2, length), dtype=int)) for length in (4, 3)]
    uneven = backend.oracle(tokens, batches, loss="cross_entropy")
    return {
        "more than there are": oracle.outputs(oracle.parameters, 99).shape,
        "tokens": uneven.outputs(uneven.parameters, 2).shape,
        "lengths": failure(lambda: uneven.outputs(uneven.parameters, 3)),
        "no examples": failure(lambda: oracle.outputs(oracle.parameters, 0)),
        "no rows": failure(lambda: oracle.vector_jacobian_product(oracle.parameters, np.ones(3))),
        "wide rows": failure(lambda: oracle.vector_jacobian_product(oracle.parameters, np.ones((2, 4)))),
        "many rows": failure(lambda: oracle.vector_jacobian_product(oracle.parameters, np.ones((13, 3)))),
    }


def failure(call: Any) -> str:
    try:
        call()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def flat(vector: ish.ParameterVector) -> np.ndarray[Any, Any]:
    return np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in vector.arrays.values()])


def error(value: Any, expected: Any) -> float:
    return float(np.abs(value - expected).max() / np.abs(expected).max())


CHECKS = [gauss_newton_product, products_of_the_perceptron, block_of_products, adjoint_products, rows_of_examples]
