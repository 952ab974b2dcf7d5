"""What a user of JAX may pass, and errors that name what is wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, LossError, ModelError, NonFiniteError
from invariant_sharpness_jax import backend
from zoo.jax_networks import Network, random_data, random_parameters


def oracle(**changes: Any) -> ish.CurvatureOracle:
    """An oracle that is fine but for what is changed."""
    x, y = random_data()
    options = {"parameters": random_parameters(), "loss": "cross_entropy", **changes}
    return backend.oracle(options.pop("apply", Network().apply), options.pop("data", (x, y)), **options)


class Batches:
    """Something that can be iterated over again, and shuffles or changes."""

    def __init__(self, *, changing: bool = False) -> None:
        self.random, self.changing = np.random.default_rng(0), changing

    def __iter__(self) -> Any:
        x, y = random_data()
        for rows in np.array_split(self.random.permutation(len(x)), 2):
            noise = self.random.normal(size=x[rows].shape) if self.changing else 0.0
            yield {"features": x[rows] + noise, "labels": y[rows]}


def of_features(parameters: Any, inputs: Any) -> Any:
    return Network().apply(parameters, inputs["features"])


def test_every_form_of_data_gives_the_same_loss() -> None:
    x, y = random_data()
    plain = oracle()
    expected = plain.loss(plain.parameters)
    forms = {
        "JAX arrays": oracle(data=(jnp.asarray(x), jnp.asarray(y))),
        "a list of batches": oracle(data=[(x[:7], y[:7]), (x[7:], y[7:])]),
        "a dictionary": oracle(data={"features": x, "labels": y}, apply=of_features),
        "a shuffling loader": oracle(data=Batches(), apply=of_features),
    }
    for name, other in forms.items():
        value = other.loss(other.parameters)
        assert value == pytest.approx(expected, rel=1e-12), f"{name}: {value} instead of {expected}"


def without(key: str, value: Any) -> Any:
    """The parameters with one leaf replaced."""
    parameters = random_parameters()
    parameters["dense_1"][key] = value
    return parameters


X, Y = random_data()
BAD = {
    "NaN in a parameter": (NonFiniteError, r"dense_1\.bias", {"parameters": without("bias", jnp.full(3, jnp.nan))}),
    "integer parameter": (ModelError, r"dense_1\.bias.*int64", {"parameters": without("bias", jnp.arange(3))}),
    "boolean parameter": (ModelError, r"dense_1\.bias.*bool", {"parameters": without("bias", np.ones(3, bool))}),
    "complex parameter": (ModelError, r"dense_1\.bias.*complex", {"parameters": without("bias", np.ones(3, complex))}),
    "eight bits": (ModelError, 'dtype="float32"', {"parameters": without("bias", jnp.ones(3, jnp.float8_e4m3fn))}),
    "number as parameter": (ModelError, r"dense_1\.bias.*float", {"parameters": without("bias", 0.5)}),
    "no parameter": (ModelError, "no leaf", {"parameters": {}}),
    "unknown dtype": (ModelError, "float16", {"dtype": "float16"}),
    "wrong group": (ModelError, "dense_9", {"groups": [ish.ParameterGroup("dense_9", (2,))]}),
    "NaN in an input": (NonFiniteError, "example 2", {"data": (np.where(np.arange(11)[:, None] == 2, np.nan, X), Y)}),
    "label out of range": (DataError, "target 3", {"data": (X, np.full(11, 3))}),
    "labels of floats": (DataError, "integers", {"data": (X, Y.astype(float))}),
    "columns of targets": (
        DataError,
        "or targets of the shape of the outputs",
        {"data": (X, np.eye(2, dtype=int)[Y % 2])},
    ),
    "empty data": (DataError, "empty", {"data": []}),
    "empty batch": (DataError, "batch 1 is empty", {"data": [(X, Y), (X[:0], Y[:0])]}),
    "generator": (DataError, "one-shot", {"data": iter([(X, Y)])}),
    "no labels": (DataError, "labels", {"data": {"features": X}}),
    "text in a batch": (
        DataError,
        "real numbers",
        {"data": {"t": np.array(["a"] * 11), "labels": Y}, "apply": of_features},
    ),
    "changing data": (DataError, "change from pass to pass", {"data": Batches(changing=True), "apply": of_features}),
    "wrong shapes": (ModelError, r"\(11, 3\)", {"data": (X[:, :3], Y)}),
    "infinite outputs": (NonFiniteError, "outputs of batch 0", {"apply": lambda p, x: Network().apply(p, x) / 0.0}),
    "outputs without examples": (ModelError, "first axis", {"apply": lambda p, x: Network().apply(p, x)[:5]}),
    "no array": (LossError, "tuple", {"apply": lambda p, x: (Network().apply(p, x), 0)}),
    "unknown loss": (LossError, "hinge", {"loss": "hinge"}),
    "scalar loss": (
        LossError,
        "one loss per",
        {"loss": lambda outputs, targets: jnp.mean((outputs - targets[:, None]) ** 2)},
    ),
    "no derivative": (ModelError, "while_loop", {"apply": lambda p, x: halved(Network().apply(p, x))}),
    "batch statistics": (ModelError, "inference mode", {"apply": lambda p, x: centred(Network().apply(p, x))}),
    "random at tracing": (ModelError, "random", {"apply": lambda p, x: Network().apply(p, x) * np.random.uniform()}),  # noqa: NPY002
    "all ignored": (DataError, "add up to zero", {"data": (X, np.full(11, -100))}),
}


def halved(z: Any) -> Any:
    return jax.lax.while_loop(lambda state: state[0] < 3, lambda state: (state[0] + 1, state[1] / 2), (0, z))[1]


def centred(z: Any) -> Any:
    return z - jnp.mean(z, axis=0)


def gradient_of(**changes: Any) -> None:
    found = oracle(**changes)
    found.gradient(found.parameters)


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_named(what: str) -> None:
    kind, pattern, changes = BAD[what]
    with pytest.raises(kind, match=pattern):
        gradient_of(**changes)


def test_a_function_without_parameters_is_told_what_to_pass() -> None:
    for function in (Network().apply, of_features, jax.jit(of_features), partial(of_features)):
        assert backend.accepts(function), f"{function} is not accepted"
        with pytest.raises(ModelError, match="parameters=") as caught:
            backend.oracle(function, (X, Y), loss="cross_entropy")
        assert "apply(parameters, inputs) -> outputs" in str(caught.value), str(caught.value)


def test_other_objects_are_not_accepted() -> None:
    for thing in (3, "model", ish.ParameterVector(np, {}), dict, [1]):
        assert not backend.accepts(thing), f"{thing!r} is accepted"


def test_examples_whose_types_say_where_they_are_are_refused() -> None:
    x, y = random_data()
    sharding = jax.sharding.NamedSharding(jax.make_mesh((1,), ("devices",)), jax.sharding.PartitionSpec("devices"))
    with pytest.raises(DataError, match=r"over the axis 'devices'.*AxisType\.Auto"):
        oracle(data=(jax.device_put(x, sharding), y))
