"""A batch that is one example: all values are those of the mean over batches, derived densely from the loss written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, LossError, ModelError
from zoo.installed import missing
from zoo.keras_programs.joint_losses import BATCHES, GRAPHS, JOINT, WEIGHTS, X, Y, of_batch

if missing("torch"):
    pytest.skip("torch is not installed", allow_module_level=True)

import torch

from zoo.joint_references import dense, dense_of_graphs


def loss_of(name: Any, xp: Any) -> Any:
    """A joint loss by name, one that is none by mistake, or what the library knows."""
    if name == "by rows":
        return lambda o, _: o[:, 0] ** 2
    return of_batch(JOINT[name], xp) if name in JOINT else name


def jax_oracle(name: Any, data: Any = BATCHES, **options: Any) -> ish.CurvatureOracle:
    import jax.numpy as jnp

    def network(p: dict[str, Any], x: Any) -> Any:
        hidden = jnp.tanh(x @ p["first"].T)
        return (hidden - jnp.mean(hidden, 0)) @ p["second"].T

    parameters = {key: jnp.asarray(array) for key, array in WEIGHTS.items()}
    return ish.oracle(network, data, loss_of(name, jnp), parameters=parameters, **{"examples": "batches", **options})


def torch_oracle(name: Any, data: Any = BATCHES, **options: Any) -> ish.CurvatureOracle:
    import array_api_compat.torch as xp

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 4, bias=False), torch.nn.Linear(4, 2, bias=False)

        def forward(self, x: Any) -> Any:
            hidden = torch.tanh(self.first(x))
            return self.second(hidden - hidden.mean(0))

    model = Network().double()
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), WEIGHTS.values(), strict=True):
            parameter.copy_(torch.as_tensor(array))
    return ish.oracle(model, data, loss_of(name, xp), **{"examples": "batches", **options})


Build = Callable[..., Any]
BUILDS = [
    torch_oracle,
    pytest.param(jax_oracle, marks=pytest.mark.skipif(bool(missing("jax")), reason="jax is not installed")),
]


def flat(oracle: Any, vector: Any) -> np.ndarray:
    return np.concatenate([array.ravel() for array in oracle.to_numpy(vector).values()])


@pytest.mark.parametrize(
    ("build", "name"),
    [
        pytest.param(build, name, marks=() if build is torch_oracle else pytest.mark.slow)
        for build in (torch_oracle, jax_oracle)
        for name in ("centered", "rolled", "opposite", "contrastive")
    ],
)
def test_values_are_means_over_batches(build: Build, name: str) -> None:
    oracle, expected = build(name), dense(name)
    p = oracle.parameters
    names = frozenset(group.name for group in oracle.groups)
    v = oracle.from_numpy(
        {key: np.cos(np.arange(array.size)).reshape(array.shape) for key, array in oracle.to_numpy(p).items()}
    )
    along = flat(oracle, v)
    found = {
        "loss": oracle.loss(p),
        "gradient": flat(oracle, oracle.gradient(p)),
        "product": flat(oracle, oracle.hessian_vector_product(p, v)),
        "Gauss-Newton product": flat(oracle, oracle.gauss_newton_vector_product(p, v)),
        "Gauss-Newton diagonal": flat(oracle, oracle.gauss_newton_diagonal(p, names)),
        "second moment": flat(oracle, oracle.gradient_second_moment(p)),
        "trace": ish.hessian_trace(oracle, probes=64).value,
    }
    right = {
        "loss": expected["loss"],
        "gradient": expected["gradient"],
        "product": expected["hessian"] @ along,
        "Gauss-Newton product": expected["gauss_newton"] @ along,
        "Gauss-Newton diagonal": np.diag(expected["gauss_newton"]),
        "second moment": expected["moment"],
        "trace": np.trace(expected["hessian"]),
    }
    for key, value in right.items():
        tolerance = 1e-9 if build is torch_oracle else 1e-4
        np.testing.assert_allclose(found[key], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=key)
    assert (oracle.examples, oracle.outputs_per_example) == (2, 12), "examples are not whole batches"


@pytest.mark.skipif(bool(missing("jax")), reason="jax is not installed")
def test_graphs_in_dictionaries_are_whole_examples_on_jax() -> None:
    import jax.numpy as jnp

    def network(p: dict[str, Any], graph: dict[str, Any]) -> Any:
        hidden, (sources, ends) = jnp.tanh(graph["nodes"] @ p["first"].T), graph["edges"]
        return hidden.at[ends].add(hidden[sources]) @ p["second"].T

    parameters = {key: jnp.asarray(array) for key, array in WEIGHTS.items()}
    oracle = ish.oracle(network, GRAPHS, "cross_entropy", parameters=parameters, examples="batches")
    expected, p = dense_of_graphs(), oracle.parameters
    assert oracle.loss(p) == pytest.approx(float(expected["loss"]), rel=1e-5)
    product = flat(oracle, oracle.hessian_vector_product(p, p))
    right = expected["hessian"] @ np.concatenate([array.ravel() for array in WEIGHTS.values()])
    np.testing.assert_allclose(product, right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    assert oracle.examples == 2, "examples are not whole graphs"


@pytest.mark.parametrize("build", BUILDS)
def test_batches_are_chosen_and_come_from_arrays(build: Build) -> None:
    whole = build("centered", (X, Y), batch_size=4)
    parts = [whole.subset([number]).loss(whole.parameters) for number in range(3)]
    assert whole.examples == 3, "ten rows are three batches of at most four"
    assert whole.loss(whole.parameters) == pytest.approx(np.mean(parts), rel=1e-6)
    with ish.memory_limit(1000):
        assert whole.loss(whole.parameters) == pytest.approx(np.mean(parts), rel=1e-6), "a batch was cut"


@pytest.mark.parametrize("build", BUILDS)
def test_what_would_cut_a_batch_is_refused(build: Build) -> None:
    with pytest.raises(DataError, match=r"microbatch=2 would cut batches, .* leave microbatch out"):
        build("centered", microbatch=2)
    with pytest.raises(DataError, match=r"examples='graphs', but an example is a row of a batch"):
        build("centered", examples="graphs")


@pytest.mark.parametrize("build", BUILDS)
def test_loss_has_to_be_one_number(build: Build) -> None:
    with pytest.raises(LossError, match=r"returned shape \(4,\) for a batch, .* take their mean"):
        build("by rows")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_loss_of_rows_is_averaged_over_each_batch(build: Build, loss: str) -> None:
    targets = (Y % 2).astype(int) if loss == "cross_entropy" else X[:, :2]
    batches = [(X[:4], targets[:4]), (X[4:], targets[4:])]
    oracle = build(loss, batches)
    parts = []
    for x, y in batches:
        z = np.tanh(x @ WEIGHTS["first"].T)
        z = (z - z.mean(0)) @ WEIGHTS["second"].T
        rows = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y] if loss == "cross_entropy" else ((z - y) ** 2).mean(1)
        parts.append(rows.mean())
    assert oracle.loss(oracle.parameters) == pytest.approx(np.mean(parts), rel=1e-6)
    if loss == "cross_entropy":
        with pytest.raises(DataError, match="target 2 of example 1"):
            build(loss, [(X[:2], np.array([0, 2]))])


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("rows", [slice(None), slice(0, 1)])
def test_model_that_mixes_examples_is_refused_by_rows(build: Build, rows: slice) -> None:
    """Of a batch of one row, the mean is the row itself: nothing is mixed."""

    def squares(o: Any, _: Any) -> Any:
        return (o**2).sum(1)

    if len(X[rows]) == 1:
        assert build(squares, (X[rows], Y[rows]), examples="rows").loss is not None
        return
    with pytest.raises(ModelError, match=r'mixes the examples.*pass examples="batches" if a whole batch is one'):
        build(squares, (X[rows], Y[rows]), examples="rows")
