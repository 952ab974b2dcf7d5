"""What is no array of numbers is named with what to do, on every backend; so are sizes and numbers of examples that are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, ModelError
from invariant_sharpness_numpy import ReluNetwork
from zoo.installed import missing

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(6, 4)), RANDOM.integers(0, 3, 6)
NAMES = np.array(list("abcabc"))


def numpy_oracle(data: Any, **options: Any) -> Any:
    return ish.oracle(ReluNetwork.initialize((4, 5, 3), seed=0), data, **options)


def torch_oracle(data: Any, **options: Any) -> Any:
    import torch

    return ish.oracle(torch.nn.Linear(4, 3).double(), data, **options)


def jax_oracle(data: Any, **options: Any) -> Any:
    return ish.oracle(lambda p, x: x @ p, data, parameters=np.ones((4, 3), np.float32), **options)


ORACLES: dict[str, Callable[..., Any]] = {"numpy": numpy_oracle, "torch": torch_oracle, "jax": jax_oracle}
every_backend = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.skipif(bool(missing(name)), reason="not installed")) for name in ORACLES],
)

DATA: dict[str, tuple[Any, str]] = {
    "names of classes": ((X, NAMES), r"dtype <U1.*(number the classes from 0|convert it to)"),
    "objects": ((X, np.array([{}] * 6, dtype=object)), r"dtype object"),
    "inputs of strings": ((np.array([["a"] * 4] * 6), Y), r"dtype <U1"),
    "dates": ((np.zeros((6, 4), dtype="datetime64[s]"), Y), r"dtype datetime64"),
    "records": ((np.zeros(6, dtype=[("a", "f8"), ("b", "f8")]), Y), r"'<f8'"),
    "sparse matrix": ((scipy.sparse.csr_matrix(X), Y), r"csr_matrix that is not dense: take toarray\(\)|dtype object"),
    "sparse array": ((scipy.sparse.coo_array(X), Y), r"coo_array that is not dense: take toarray\(\)|dtype object"),
    "list of names": ((X, list(NAMES)), r"targets are a list of str.*np.unique|pair of arrays"),
    "list of numbers": ((X, Y.tolist()), r"targets are a list of int.*np.asarray|pair of arrays"),
    "no targets": ((X, None), r"there are no targets|pair of arrays"),
    "one number": ((X, 3), r"targets are a int|pair of arrays"),
}
BATCHES = {
    "names in a batch": ([(X, NAMES)], r"dtype <U1.*number the classes"),
    "sparse batch": ([(scipy.sparse.csr_matrix(X), Y)], r"csr_matrix that is not dense"),
    "list in a batch": ([(X, list(NAMES))], r"batch"),
    "nothing in a batch": ([(X, None)], r"targets of a batch are a NoneType"),
    "objects in a dictionary": ([{"x": np.array([{}] * 6), "labels": Y}], r"dtype object"),
}


@every_backend
@pytest.mark.parametrize("what", [*DATA, *BATCHES])
def test_what_is_no_array_of_numbers_is_named(backend: str, what: str) -> None:
    data, words = (DATA | BATCHES)[what]
    if backend == "numpy" and what in BATCHES:
        words = "pair of arrays"
    with pytest.raises(DataError, match=words):
        ORACLES[backend](data)


@every_backend
@pytest.mark.parametrize("size", [2.5, 4.0, "8", None, 0, -3, float("nan")])
def test_batch_size_is_a_positive_integer(backend: str, size: Any) -> None:
    with pytest.raises(DataError, match=r"batch_size=.*, but a batch has at least one example"):
        ORACLES[backend]((X, Y), batch_size=size)


@every_backend
@pytest.mark.parametrize("examples", [np.arange(6) > 2, [0.5, 1.5], ["1"], [], [6], [-1]])
def test_subset_is_given_by_numbers_of_examples(backend: str, examples: Any) -> None:
    oracle = ORACLES[backend]((X.astype(np.float32), Y))
    with pytest.raises(DataError, match=r"(a subset is given by.*np.flatnonzero\(mask\)|numbered from 0 to 5)"):
        oracle.subset(examples)


TORCH: dict[str, Callable[[Any, Any], Any]] = {
    "sparse": lambda x, y: (x.to_sparse(), y),
    "sparse rows": lambda x, y: [(x.to_sparse_csr(), y)],
    "nested": lambda x, y: [(nested([x[0], x[1]]), y[:2])],
    "nested with lengths": lambda x, y: [(nested([x[:2], x[2:5]], ragged=True), y[:2])],
    "sparse in a dictionary": lambda x, y: [{"input": x.to_sparse(), "labels": y}],
    "sparse in a tuple": lambda x, y: [((x, x.to_sparse()), y)],
}


def nested(parts: Any, *, ragged: bool = False) -> Any:
    import torch

    return torch.nested.nested_tensor(parts, layout=torch.jagged if ragged else torch.strided)


@pytest.mark.skipif(bool(missing("torch")), reason="torch is not installed")
@pytest.mark.parametrize("what", TORCH)
@pytest.mark.filterwarnings("ignore:.*(prototype|beta).*")
def test_sparse_and_nested_tensors_are_named(what: str) -> None:
    import torch

    with pytest.raises(
        DataError, match=r"a batch holds a \w*Tensor that is not dense: (take to_dense|pad the examples)"
    ):
        torch_oracle(TORCH[what](torch.as_tensor(X), torch.as_tensor(Y)))


@pytest.mark.skipif(bool(missing("torch")), reason="torch is not installed")
@pytest.mark.parametrize(
    "change", [lambda x: x.astype(">f8"), lambda x: x[:, ::-1][:, ::-1], np.ma.masked_array, "frame"]
)
def test_other_forms_of_the_same_numbers_have_the_same_values(change: Any) -> None:
    import pandas as pd

    other = pd.DataFrame(X) if change == "frame" else change(X)
    values = []
    for x in (X, other):
        import torch

        torch.manual_seed(0)
        values.append(ish.hessian_trace(torch_oracle((x, Y))).value)
    assert values[0] == values[1]


@pytest.mark.skipif(bool(missing("jax")), reason="jax is not installed")
@pytest.mark.parametrize("what", ["complex", "integers", "booleans"])
def test_outputs_of_jax_that_are_no_real_numbers_are_named(what: str) -> None:
    import jax.numpy as jnp

    functions = {
        "complex": jnp.fft.fft,
        "integers": lambda z: jnp.argmax(z, axis=1, keepdims=True),
        "booleans": lambda z: z > 0,
    }
    with pytest.raises(ModelError, match=r"outputs of dtype \w+, but curvature needs real floating-point numbers"):
        ish.oracle(
            lambda p, x: functions[what](x @ p), (X.astype(np.float32), Y), parameters=np.ones((4, 3), np.float32)
        )


@pytest.mark.parametrize("labels", [np.eye(3, dtype=int)[Y], Y[:, None], np.array(3)])
@pytest.mark.parametrize("bound", [ish.pac_bayes_bound, ish.pac_bayes_terms])
def test_labels_of_a_bound_are_one_number_for_each_example(bound: Any, labels: Any) -> None:
    with pytest.raises(DataError, match=r"labels have shape .*, but there is one number for each example.*argmax"):
        bound(numpy_oracle((X, Y)), labels=labels)


@pytest.mark.parametrize("thing", [ReluNetwork.initialize((4, 3), seed=0), 3, "model", None, (X, Y)])
@pytest.mark.parametrize("function", [ish.measure, ish.hessian_trace, ish.find_symmetries, ish.certify, ish.xtrace])
def test_what_is_no_oracle_is_named(function: Any, thing: Any) -> None:
    with pytest.raises(
        ModelError, match=rf"a {type(thing).__name__} is no oracle: make one by invariant_sharpness.oracle"
    ):
        function(thing)


@pytest.mark.parametrize("claims", [{"a": "layer"}, {"a": {"layers"}}, {"a": {"row", "everything"}}])
def test_claims_are_words_of_the_declarations(claims: Any) -> None:
    def a(oracle: ish.CurvatureOracle) -> float:
        return oracle.loss(oracle.parameters)

    with pytest.raises(
        ish.errors.ArgumentError, match=r"there is no invariance '.*'; the words of the declarations are diagonal, head"
    ):
        ish.certify(numpy_oracle((X, Y)), [a], claims=claims)


@pytest.mark.parametrize(("limit", "words"), [("1GB", "'1GB'"), (0, "0"), (None, "None"), (float("nan"), "nan")])
def test_memory_limit_is_a_number_of_bytes(limit: Any, words: str) -> None:
    with (
        pytest.raises(ish.errors.ArgumentError, match=rf"memory_limit\({words}\), but it is a number of bytes"),
        ish.memory_limit(limit),
    ):
        pass
