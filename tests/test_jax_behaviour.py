"""What a user of JAX relies on: few compilations, no side effects, and errors that name what is wrong."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import invariant_sharpness as ish
from invariant_metrics import INVARIANT, relative_change
from invariant_sharpness.errors import DataError, LossError, ModelError, NonFiniteError
from invariant_sharpness.symmetries import chain_rescalings, unit_count
from invariant_sharpness_jax import backend
from jax_networks import SIZES, Network, random_data, random_parameters

NETWORK = Network()
ORACLE = backend.oracle(NETWORK.apply, random_data(), loss="cross_entropy", parameters=random_parameters())


def test_nothing_is_traced_again_for_other_values() -> None:
    def measure(point: ish.ParameterVector) -> None:
        moved = ish.Moved(ORACLE, point)
        ish.measure(moved, list(ish.METRICS))

    measure(ORACLE.parameters)
    before = len(NETWORK.traces)
    measure(ORACLE.from_tree(random_parameters(seed=9)))
    assert len(NETWORK.traces) == before, f"traced {len(NETWORK.traces) - before} times more: {NETWORK.traces[before:]}"


def test_equal_arguments_give_equal_results_bit_by_bit() -> None:
    p = ORACLE.parameters
    first, second = (ORACLE.to_numpy(ORACLE.hessian_vector_product(p, p)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first), "two equal products differ"
    assert ORACLE.loss(p) == ORACLE.loss(p)


@given(seed=st.integers(0, 2**16), exponents=st.lists(st.integers(-12, 12), min_size=8, max_size=8))
@settings(deadline=None, max_examples=10)
def test_normalized_metrics_survive_a_rescaling_of_rows_and_columns(seed: int, exponents: list[int]) -> None:
    point = ORACLE.from_tree(random_parameters(seed=seed))
    moved, position = point, 0
    for rescaling in chain_rescalings(ORACLE.groups):
        count = unit_count(ORACLE.groups, rescaling)
        factors = np.ldexp(1.0, np.array(exponents[position : position + count]))
        moved, position = rescaling.apply(ORACLE, moved, factors), position + count
    assert position == sum(SIZES[1:-1]), f"{position} units were rescaled"
    before, after = ish.Moved(ORACLE, point), ish.Moved(ORACLE, moved)
    losses = before.loss(before.parameters), after.loss(after.parameters)
    assert losses[0] == losses[1], f"the loss moved from {losses[0]!r} to {losses[1]!r}"
    for name, metric in INVARIANT.items():
        values = metric(before).value, metric(after).value
        assert relative_change(*values) <= 1e-10, f"{name} moved from {values[0]!r} to {values[1]!r}"


def test_other_parameters_are_measured_in_the_users_form() -> None:
    other = backend.oracle(Network().apply, random_data(), loss="cross_entropy", parameters=random_parameters(seed=9))
    assert ORACLE.loss(ORACLE.from_tree(random_parameters(seed=9))) == other.loss(other.parameters)
    with pytest.raises(ModelError, match="leaves"):
        ORACLE.from_tree({"dense_0": jnp.zeros(3)})
    with pytest.raises(ModelError, match=r"dense_0\.bias"):
        ORACLE.from_tree(random_parameters(sizes=(4, 6, 3, 3)))


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
    expected = ORACLE.loss(ORACLE.parameters)
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
    "half precision": (ModelError, 'dtype="float32"', {"parameters": without("bias", np.ones(3, np.float16))}),
    "number as parameter": (ModelError, r"dense_1\.bias.*float", {"parameters": without("bias", 0.5)}),
    "no parameter": (ModelError, "no leaf", {"parameters": {}}),
    "unknown dtype": (ModelError, "float16", {"dtype": "float16"}),
    "wrong group": (ModelError, "dense_9", {"groups": [ish.ParameterGroup("dense_9", (2,))]}),
    "NaN in an input": (NonFiniteError, "example 2", {"data": (np.where(np.arange(11)[:, None] == 2, np.nan, X), Y)}),
    "label out of range": (DataError, "target 3", {"data": (X, np.full(11, 3))}),
    "labels of floats": (DataError, "integers", {"data": (X, Y.astype(float))}),
    "one-hot targets": (DataError, "argmax", {"data": (X, np.eye(3, dtype=int)[Y])}),
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
    for function in (NETWORK.apply, of_features, jax.jit(of_features), partial(of_features)):
        assert backend.accepts(function), f"{function} is not accepted"
        with pytest.raises(ModelError, match="parameters=") as caught:
            backend.oracle(function, (X, Y), loss="cross_entropy")
        assert "apply(parameters, inputs) -> outputs" in str(caught.value), str(caught.value)


def test_other_objects_are_not_accepted() -> None:
    for thing in (3, "model", ish.ParameterVector(np, {}), dict, [1]):
        assert not backend.accepts(thing), f"{thing!r} is accepted"


def test_importing_the_backend_does_not_import_jax() -> None:
    run(
        "import sys, invariant_sharpness_jax as b; assert b.backend.accepts(lambda p, x: x); assert 'jax' not in sys.modules"
    )


def test_in_32_bit_mode_double_precision_is_an_error_and_not_rounded() -> None:
    run("""
import numpy as np, jax, jax.numpy as jnp
from invariant_sharpness_jax import backend
from invariant_sharpness.errors import DataError, ModelError
x, y = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 2, 0])
def apply(p, x): return x @ p["w"]
def refused(kind, text, data=(x, y), **options):
    try:
        backend.oracle(apply, data, loss="cross_entropy", **options)
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
single = {"w": jnp.ones((2, 3))}
refused(ModelError, "jax_enable_x64", parameters={"w": np.ones((2, 3))})
refused(ModelError, "jax_enable_x64", parameters=single, dtype="float64")
refused(DataError, "int32", parameters=single, data=(x, y + 2**32))
oracle = backend.oracle(apply, (x, y), loss="cross_entropy", parameters=single)
assert abs(oracle.loss(oracle.parameters) - np.log(3)) < 1e-6
assert oracle.gradient(oracle.parameters)["w"].dtype == jnp.float32
backend.oracle(apply, (x, y), loss="cross_entropy", parameters={"w": np.ones((2, 3))}, dtype="float32")
assert not jax.config.jax_enable_x64
""")


def run(program: str) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_copy_in_double_precision_is_measured() -> None:
    single = jax.tree.map(lambda a: a.astype(jnp.float32), random_parameters())
    found = oracle(parameters=single, dtype="float64")
    assert found.parameters["dense_0.bias"].dtype == jnp.float64
    assert single["dense_0"]["bias"].dtype == jnp.float32
