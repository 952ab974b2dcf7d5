"""Every metric on PyTorch networks against a dense float64 Hessian that torch.func builds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import invariant_sharpness as ish
from zoo.torch_derivatives import LOSSES, dense_diagonal, dense_hessian, dense_matrix, example_gradients
from zoo.torch_networks import random_problem

PROBLEMS = [(kind, loss) for kind in ("mlp", "cnn", "resnet") for loss in LOSSES]


@cache
def problem(kind: str, loss: str) -> dict[str, Any]:
    model, x, y = random_problem(kind)
    blocks = dense_hessian(model, x, y, LOSSES[loss])
    return {
        "oracle": ish.oracle(model, (x, y), loss=loss, batch_size=4),
        "matrix": dense_matrix(blocks),
        "diagonal": {name: h.numpy() for name, h in dense_diagonal(model, blocks).items()},
        "gradients": example_gradients(model, x, y, LOSSES[loss]),
        "weights": {name: p.detach().numpy() for name, p in model.named_parameters()},
        "modules": dict(model.named_modules()),
    }


def weight_names(setting: dict[str, Any]) -> list[str]:
    """Names of kernels, told by their number of axes alone."""
    return [name for name, values in setting["weights"].items() if values.ndim > 1]


def assert_close(value: float, expected: float, what: str, tolerance: float = 1e-8) -> None:
    error = abs(value - expected) / abs(expected)
    assert error <= tolerance, (
        f"{what} is {value!r}, but the dense Hessian says {expected!r}: relative error {error:.1e}"
    )


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_trace_is_the_sum_of_the_dense_diagonal(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    assert_close(ish.hessian_trace(setting["oracle"]).value, float(setting["matrix"].trace()), "trace")


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_spectral_norm_is_the_largest_magnitude_of_the_dense_eigenvalues(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    expected = float(torch.linalg.eigvalsh(setting["matrix"]).abs().max())
    assert_close(ish.hessian_spectral_norm(setting["oracle"]).value, expected, "spectral norm", 1e-6)


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_frobenius_norm_from_all_columns_is_that_of_the_dense_hessian(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    estimate = ish.hessian_frobenius_norm(setting["oracle"], probes=len(setting["matrix"]))
    assert_close(estimate.value, float(setting["matrix"].norm()), "Frobenius norm")


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_every_group_has_the_exact_diagonal(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    diagonal = ish.hessian_diagonal(setting["oracle"])
    for name, expected in setting["diagonal"].items():
        assert diagonal[name].method == "exact", f"{name} was refused: defect {diagonal.defects[name]}"
        error = np.abs(diagonal[name].values - expected).max() / np.abs(expected).max()
        assert error <= 1e-10, f"the diagonal of {name} is off by {error:.1e}"


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_matrix_normalized_sharpness_is_its_formula(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    expected = sum(
        np.sqrt((setting["weights"][name] ** 2).sum() * max(setting["diagonal"][name].sum(), 0))
        for name in weight_names(setting)
    )
    assert_close(ish.matrix_normalized_sharpness(setting["oracle"]).value, expected, "(13)")


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_parameter_normalized_sharpness_is_its_formula(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    expected = sum(
        (2 * np.abs(setting["weights"][name]) * np.sqrt(np.clip(setting["diagonal"][name], 0, None))).sum()
        for name in weight_names(setting)
    )
    assert_close(
        ish.parameter_normalized_sharpness(setting["oracle"]).value, expected, "parameter-normalized sharpness"
    )


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_normalized_sharpness_is_the_minimum_that_scipy_finds(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    expected = sum(
        independent_minimum(
            np.clip(setting["diagonal"][name], 0, None), setting["weights"][name] ** 2, *index_sets(setting, name)
        )
        for name in weight_names(setting)
    )
    estimate = ish.normalized_sharpness(setting["oracle"])
    assert estimate.certificate is not None
    assert estimate.certificate <= 1e-9
    assert_close(estimate.value, expected, "(17)")


@pytest.mark.parametrize(("kind", "loss"), PROBLEMS)
def test_fisher_rao_norm_is_its_formula_in_both_forms(kind: str, loss: str) -> None:
    setting = problem(kind, loss)
    slopes = {name: g.numpy() for name, g in setting["gradients"].items()}
    diagonal = sum((setting["weights"][n] ** 2 * (g**2).mean(axis=0)).sum() for n, g in slopes.items())
    directional = sum((g * setting["weights"][n]).reshape(len(g), -1).sum(axis=1) for n, g in slopes.items())
    assert_close(ish.fisher_rao_norm(setting["oracle"]).value, diagonal, "(25)")
    full = ish.fisher_rao_norm(setting["oracle"], form="full").value
    assert_close(full, float((directional**2).mean()), "full Fisher-Rao norm")


def index_sets(setting: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Row (output channel) and column (input channel) of every entry of a kernel, entry by entry."""
    shape = setting["weights"][name].shape
    module = setting["modules"][name.rpartition(".")[0]]
    rows, columns = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    groups = getattr(module, "groups", 1)
    for index in np.ndindex(*shape):
        if isinstance(module, torch.nn.ConvTranspose2d):
            column = index[0]
            row = column // (shape[0] // groups) * shape[1] + index[1]
        else:
            row = index[0]
            column = row // (shape[0] // groups) * shape[1] + index[1]
        rows[index], columns[index] = row, column
    return rows, columns


def independent_minimum(h: np.ndarray, squares: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    """Minimize (17) at lambda = 1/2 over ln sigma_i^2 and ln sigma'_j^2 with SciPy, entry by entry."""
    count = rows.max() + 1

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        variance = np.exp(point[rows] + point[count + columns])
        slope = h * variance - squares / variance
        gradient = np.zeros_like(point)
        np.add.at(gradient, rows, slope)
        np.add.at(gradient, count + columns, slope)
        return float((h * variance + squares / variance).sum()), gradient

    start = np.zeros(count + columns.max() + 1)
    result = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
    return float(result.fun)
