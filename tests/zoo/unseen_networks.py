"""Networks with a nonlinearity that few examples meet, written once for PyTorch and JAX, and their dense Hessians.

Every network is a function of arrays by name and of inputs, in operations that both namespaces have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import invariant_sharpness as ish

Arrays = dict[str, Any]


class Operations(NamedTuple):
    """What both frameworks have, under the same names and orders of arguments."""

    xp: Any
    relu: Callable[[Any], Any]
    gelu: Callable[[Any], Any]


class Case(NamedTuple):
    """A network with its data, and the groups in which its outputs are not affine on all data."""

    apply: Callable[[Operations, Arrays, Any], Any]
    parameters: dict[str, np.ndarray]
    data: tuple[np.ndarray, np.ndarray]
    curved: frozenset[str]
    loss: str = "cross_entropy"


def _normal(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=shape) / (shape[-1] ** 0.5 if len(shape) > 1 else 1) for name, shape in shapes.items()
    }


def _data(seed: int, examples: int, width: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(examples, width)), random.integers(0, classes, examples)


EXPERTS, RARE = 6, np.array([0.0, 0.0, 0.0, 0.0, -2.5, -3.0])
"""The last two are chosen by few examples."""


def _mixture(smooth: bool) -> Callable[..., Any]:
    """Top-1 routing among experts, all of them smooth or all piecewise linear."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        chosen = ops.xp.argmax(x @ p["router"].T + ops.xp.asarray(RARE), 1)
        outputs = 0.0
        for k in range(EXPERTS):
            activation = ops.gelu if smooth else ops.relu
            part = activation(x @ p[f"in{k}"].T) @ p[f"out{k}"].T
            outputs = outputs + part * (chosen == k)[:, None]
        return outputs

    return apply


def mixture(*, smooth: bool) -> Case:
    shapes = {f"in{k}": (4, 5) for k in range(EXPERTS)} | {f"out{k}": (3, 4) for k in range(EXPERTS)}
    parameters = _normal(0, router=(EXPERTS, 5), **shapes)
    x, y = _data(1, 300, 5)
    used = set(np.argmax(x @ parameters["router"].T + RARE, 1))
    curved = frozenset(f"in{k}" for k in used) if smooth else frozenset()
    return Case(_mixture(smooth), parameters, (x, y), curved)


def stacked_mixture() -> Case:
    """All experts in one parameter: a group that is reached, but not in all of its entries. The last, which is rare, is smooth."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        chosen = ops.xp.where(x[:, 0] > 2.2, 2, ops.xp.where(x[:, 1] > 0, 1, 0))
        hidden = ops.xp.einsum("ni,koi->nko", x, p["experts"])
        smooth = ops.xp.stack([ops.relu(hidden[:, 0]), ops.relu(hidden[:, 1]), ops.gelu(hidden[:, 2])], 1)
        picked = sum(smooth[:, k] * (chosen == k)[:, None] for k in range(3))
        return picked @ p["out"].T

    return Case(apply, _normal(2, experts=(3, 4, 5), out=(3, 4)), _data(3, 400, 5), frozenset({"experts"}))


def rare_tokens() -> Case:
    """A table of which few rows are met by the tested examples; those of the last tokens go through a smooth function."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        rows = ((x[:, :1] == ops.xp.arange(200)) * x[:, :1] ** 0) @ p["table"]
        return ops.xp.where(x[:, :1] < 190, ops.relu(rows), ops.xp.tanh(rows)) @ p["out"].T

    tokens = np.random.default_rng(4).integers(0, 200, (400, 1)).astype(np.float64)
    labels = np.random.default_rng(5).integers(0, 3, 400)
    return Case(apply, _normal(6, table=(200, 4), out=(3, 4)), (tokens, labels), frozenset({"table"}))


def recurrence() -> Case:
    """A ReLU recurrence on sequences sorted by their length: the first take one step, in which the matrix acts on zeros."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        state = x[:, 0, :1] * 0 + ops.xp.zeros_like(p["first"])
        for step in range(x.shape[1]):
            moved = ops.relu(x[:, step, 1:] @ p["in"].T + state @ p["again"].T)
            state = ops.xp.where(x[:, step, :1] > 0, moved, state)
        return state @ p["out"].T

    random = np.random.default_rng(7)
    lengths = np.sort(random.integers(1, 5, 200))
    mask = (np.arange(4) < lengths[:, None]).astype(np.float64)
    x = np.concatenate([mask[:, :, None], random.normal(size=(200, 4, 3))], axis=2)
    parameters = _normal(8, **{"in": (5, 3), "again": (5, 5), "out": (3, 5)}) | {"first": np.zeros(5)}
    return Case(apply, parameters, (x, random.integers(0, 3, 200)), frozenset({"again"}))


def sorted_inputs() -> Case:
    """Sorted data, of which the upper tenth meets a smooth activation, in units that all others reach."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        hidden = x @ p["in"].T
        return ops.xp.where(x[:, :1] > 1.2, ops.xp.tanh(hidden), ops.relu(hidden)) @ p["out"].T

    x, y = _data(9, 300, 5)
    order = np.argsort(x[:, 0])
    return Case(apply, _normal(10, **{"in": (6, 5), "out": (3, 6)}), (x[order], y[order]), frozenset({"in"}))


CASES: dict[str, Callable[[], Case]] = {
    "experts that the test does not reach": lambda: mixture(smooth=True),
    "experts in one parameter": stacked_mixture,
    "rows of a table": rare_tokens,
    "sequences sorted by length": recurrence,
    "sorted inputs": sorted_inputs,
    "experts that are piecewise linear": lambda: mixture(smooth=False),
}

SMALL_CURVATURES: dict[str, Callable[[Operations, Any], Any]] = {
    "tanh": lambda ops, h: ops.relu(h) + 1e-5 * ops.xp.tanh(h),
    "gelu": lambda ops, h: ops.relu(h) + 2e-5 * ops.gelu(h),
    "square": lambda ops, h: ops.relu(h) + 2e-6 * h * h,
    "sine": lambda ops, h: ops.relu(h) + 1e-5 * ops.xp.sin(3 * h),
}


def small_curvature(kind: str, dtype: Any = np.float32) -> Case:
    """A confident network that is wrong: the output Hessian is exp(-15), the residuals are 1, and the curvature hides below rounding."""

    def apply(ops: Operations, p: Arrays, x: Any) -> Any:
        return SMALL_CURVATURES[kind](ops, x @ p["in"].T) @ p["out"].T + p["bias"]

    parameters = _normal(11, **{"in": (6, 4), "out": (3, 6)}) | {"bias": np.array([15.0, 0.0, 0.0])}
    x, _ = _data(12, 60, 4)
    typed = {name: array.astype(dtype) for name, array in parameters.items()}
    return Case(apply, typed, (x.astype(dtype), np.ones(60, dtype=np.int64)), frozenset({"in"}))


def torch_oracle(case: Case, *, stream: bool = False) -> ish.CurvatureOracle:
    """The oracle of a module with these parameters; ``stream`` reads the data from a loader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = tuple(map(torch.from_numpy, case.data))
    loader = DataLoader(TensorDataset(*data), batch_size=64, shuffle=False) if stream else data
    return ish.oracle(torch_module(case), loader, case.loss)


def torch_module(case: Case) -> Any:
    import torch
    from torch import nn

    ops = Operations(torch, torch.relu, nn.functional.gelu)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in case.parameters.items():
                self.register_parameter(name, nn.Parameter(torch.from_numpy(array)))

        def forward(self, x: Any) -> Any:
            return case.apply(ops, dict(self.named_parameters()), x)

    return Network()


def torch_diagonal(case: Case) -> dict[str, np.ndarray]:
    """From the dense Hessian blocks in float64."""
    import torch
    from torch.func import hessian

    x, y = torch.from_numpy(case.data[0]).double(), torch.from_numpy(case.data[1])
    ops = Operations(torch, torch.relu, torch.nn.functional.gelu)
    parameters = {name: torch.from_numpy(array).double() for name, array in case.parameters.items()}
    found = {}
    for name, array in parameters.items():
        block = hessian(
            lambda own, name=name: torch.nn.functional.cross_entropy(case.apply(ops, {**parameters, name: own}, x), y)
        )(array)
        found[name] = block.reshape(array.numel(), -1).diagonal().reshape(array.shape).numpy()
    return found


def jax_oracle(case: Case) -> ish.CurvatureOracle:
    """The oracle of the function."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    ops = Operations(jnp, jax.nn.relu, lambda h: jax.nn.gelu(h, approximate=False))
    parameters = {name: jnp.asarray(array) for name, array in case.parameters.items()}
    return ish.oracle(lambda p, x: case.apply(ops, p, x), case.data, case.loss, parameters=parameters)
