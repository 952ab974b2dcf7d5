"""Keras on its three engines, and TensorFlow modules, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from invariant_sharpness_keras import backend

PROGRAM = Path(__file__).parent / "keras_programs" / "run.py"
FRAMEWORKS = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}
MISSING = {
    name: next((part for part in ("keras", framework) if find_spec(part) is None), None)
    for name, framework in FRAMEWORKS.items()
}
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(part is not None, reason=f"{part} is not installed"))
    for name, part in MISSING.items()
]
TOLERANCE = {"tensorflow": 1e-9, "jax": 1e-4, "torch": 1e-4}
every_engine = pytest.mark.parametrize("engine", ENGINES)
tensorflow_alone = pytest.mark.skipif(
    MISSING["tensorflow"] is not None, reason=f"{MISSING['tensorflow']} is not installed"
)


@cache
def results(engine: str) -> dict[str, Any]:
    """What all checks of an engine found; they run once."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, str(PROGRAM), engine], capture_output=True, text=True, check=False, env=os.environ | quiet
    )
    assert run.returncode == 0, f"the checks of {engine} fail:\n{run.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def found(engine: str, check: str) -> Any:
    result = results(engine)[check]
    assert "found" in result, f"{check} on {engine}:\n{result.get('raised')}"
    return result["found"]


def relative_error(pair: list[float]) -> float:
    value, expected = pair
    return abs(value - expected) / max(abs(expected), 1e-300)


@every_engine
def test_every_metric_is_that_of_the_reference(engine: str) -> None:
    for what, pair in found(engine, "metrics_of_the_reference").items():
        error = relative_error(pair)
        assert error <= TOLERANCE[engine], f"{what} is {pair[0]}, by the NumPy backend {pair[1]} ({error:.1e})"


@every_engine
def test_squared_error_is_that_of_the_reference(engine: str) -> None:
    pair = found(engine, "squared_error")
    assert relative_error(pair) <= TOLERANCE[engine], f"the trace is {pair[0]}, by the NumPy backend {pair[1]}"


@every_engine
def test_callable_has_the_values_of_the_named_loss(engine: str) -> None:
    for what, pair in found(engine, "callable_loss").items():
        assert relative_error(pair) <= TOLERANCE[engine], f"{what} is {pair[0]}, by name {pair[1]}"


@every_engine
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_rescaling_moves_neither_the_loss_nor_normalized_metrics(engine: str, kind: str) -> None:
    pairs = found(engine, "rescaling_by_powers_of_two")[kind]
    before, after = pairs.pop("loss")
    assert before == after, f"the loss moved from {before!r} to {after!r}"
    for name, pair in pairs.items():
        error = relative_error(pair)
        assert error <= (1e-10 if engine == "tensorflow" else 1e-4), f"{name} moved from {pair[0]!r} to {pair[1]!r}"


@every_engine
def test_certificate_refuses_what_is_below_a_smooth_layer(engine: str) -> None:
    verdicts = found(engine, "verdicts")
    assert set(verdicts["relu"].values()) == {"exact"}, verdicts["relu"]
    refused = {name.split("/")[1] for name, method in verdicts["gelu"].items() if method != "exact"}
    assert refused == {"hidden0", "hidden1"}, verdicts["gelu"]


@every_engine
def test_exact_diagonal_is_that_of_the_columns_of_the_hessian(engine: str) -> None:
    pairs = found(engine, "diagonal_of_the_convolutional_network")
    assert all(pairs.pop("exact"))
    for name, pair in pairs.items():
        assert relative_error(pair) <= TOLERANCE[engine], f"{name}: {pair[0]}, by its column {pair[1]}"


@every_engine
def test_gradient_is_the_slope_of_the_loss(engine: str) -> None:
    slope, difference = found(engine, "derivative_by_differences")
    assert slope == pytest.approx(difference, rel=1e-3)


@every_engine
def test_attention_is_differentiated_twice_and_has_rows_and_columns(engine: str) -> None:
    attention = found(engine, "attention")
    left, right = attention["symmetry"]
    assert left == pytest.approx(right, rel=1e-5)
    assert left != 0
    groups = attention["groups"]
    assert groups["query/kernel"] == ["matrix", [1, 2], [0]]
    assert groups["attention_output/kernel"] == ["matrix", [2], [0, 1]]
    assert groups["gamma"][0] == "norm"


ROLES = {
    "grouped/kernel": ["convolution", [3], [2], 2, "input", None],
    "grouped/bias": ["bias", [0], [], 1, "input", "grouped/kernel"],
    "depthwise/kernel": ["convolution", [3], [2], 6, "output", None],
    "depthwise/bias": ["bias", [0], [], 1, "input", "depthwise/kernel"],
    "separable/depthwise_kernel": ["convolution", [3], [2], 12, "output", None],
    "separable/pointwise_kernel": ["convolution", [3], [2], 1, "input", None],
    "separable/bias": ["bias", [0], [], 1, "input", "separable/pointwise_kernel"],
    "transposed/kernel": ["convolution", [2], [3], 1, "input", None],
    "transposed/bias": ["bias", [0], [], 1, "input", "transposed/kernel"],
    "norm/gamma": ["norm", [0], [], 1, "input", None],
    "norm/beta": ["bias", [0], [], 1, "input", "norm/gamma"],
    "table/embeddings": ["embedding", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/kernel": ["matrix", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/recurrent_kernel": ["matrix", [1], [0], 1, "input", None],
    "recurrent/lstm_cell/bias": ["bias", [0], [], 1, "input", "recurrent/lstm_cell/kernel"],
    "dense/kernel": ["matrix", [1], [0], 1, "input", None],
    "dense/bias": ["bias", [0], [], 1, "input", "dense/kernel"],
}


@every_engine
def test_roles_axes_and_owners(engine: str) -> None:
    assert found(engine, "roles") == ROLES


@every_engine
def test_given_groups_replace_those_of_the_library(engine: str) -> None:
    role, error = found(engine, "given_groups")
    assert role == "other"
    assert "'other' was given with shape (6, 3), but in the model it is no trainable parameter" in error


@every_engine
def test_model_and_random_states_are_what_they_were(engine: str) -> None:
    assert found(engine, "untouched") == {"measured": True, "ZeroDivisionError": True, "KeyboardInterrupt": True}


@every_engine
def test_all_forms_of_data_have_one_loss(engine: str) -> None:
    losses = found(engine, "forms_of_data")
    expected = losses["arrays"]
    for form, loss in losses.items():
        assert loss == pytest.approx(expected, rel=1e-6 if engine != "tensorflow" else 1e-14), f"{form} has loss {loss}"


@every_engine
def test_inputs_in_a_dictionary_or_a_tuple(engine: str) -> None:
    named, ordered = found(engine, "two_inputs")
    assert named == pytest.approx(ordered, rel=1e-6)
    assert named[0] == pytest.approx(1.0986122886681098, rel=1e-6)


@every_engine
def test_frozen_layers_are_not_measured(engine: str) -> None:
    assert {name.split("/")[0] for name in found(engine, "frozen")} == {"hidden0", "last"}


ERRORS = {
    "empty list": ["DataError", "data are empty"],
    "empty batch": ["DataError", "batch 1 is empty"],
    "generator": ["DataError", "one-shot", "Pass list(data)"],
    "sample weights": ["DataError", "sample weights are not supported"],
    "no labels": ["DataError", "no 'labels'"],
    "rows": ["DataError", "one row per example", "(11, 5), (7,)"],
    "NaN input": ["NonFiniteError", "array 0 of batch 1", "example 4", "clean the data"],
    "label": ["DataError", "batch 1: target 3 of example 2"],
    "one-hot": ["DataError", "take argmax(-1) of one-hot targets"],
    "features": ["ModelError", "batch 0", "(11, 4)", "Check what the model takes"],
    "augmentation": ["DataError", "change from pass to pass"],
    "unknown loss": ["LossError", "'hinge' is not known"],
    "mean loss": ["LossError", "returned shape () for 11 examples"],
    "swapped": ["LossError", "mean_squared_error takes (targets, outputs)"],
    "from probabilities": ["LossError", "without its last softmax"],
    "Keras loss": ["LossError", "keras.losses.Huber is not supported"],
    "softmax": ["LossError", "outputs are probabilities", "without its last softmax"],
    "infinite weight": ["NonFiniteError", "hidden0/kernel' has 35 entries"],
    "frozen": ["ModelError", "no variable of the model is trainable"],
    "unbuilt": ["ModelError", "call model.build"],
    "mixed precision": ["ModelError", "compute in bfloat16", "set_dtype_policy"],
    "half precision": ["ModelError", "has dtype bfloat16", "set_dtype_policy"],
    "dropout in inference": ["ModelError", "depend on random numbers", "remove training=True"],
    "two outputs": ["ModelError", "instead of one tensor"],
}


@every_engine
@pytest.mark.parametrize("what", ERRORS)
def test_what_is_wrong_is_named(engine: str, what: str) -> None:
    message = found(engine, "errors")[what]
    for words in ERRORS[what]:
        assert words in message, message


@every_engine
def test_loss_that_is_not_finite_names_example_and_batch(engine: str) -> None:
    message = found(engine, "example_with_an_infinite_loss")
    assert "NonFiniteError: the loss of example 2 in batch 1 is inf" in message


@tensorflow_alone
def test_plain_module_has_the_metrics_of_the_reference_and_stays_as_it_was() -> None:
    module = found("tensorflow", "plain_module")
    for name, pair in module["metrics"].items():
        assert relative_error(pair) <= 1e-9, f"{name} is {pair[0]}, by the NumPy backend {pair[1]}"
    assert module["untouched"]
    assert module["after an error"]


@tensorflow_alone
def test_data_sets_of_tensorflow() -> None:
    sets = found("tensorflow", "data_sets")
    for form, loss in sets["losses"].items():
        assert loss == pytest.approx(sets["losses"]["arrays"], rel=1e-14), f"{form} has loss {loss}"
    assert "never end, because of repeat()" in sets["endless"]


@tensorflow_alone
def test_bilinear_upsampling_has_a_wrong_second_derivative_and_is_refused() -> None:
    upsampling = found("tensorflow", "bilinear_upsampling")
    left, right = upsampling["symmetry"]
    assert abs(left - right) > 1e-2 * abs(left), f"v H u = {left} and u H v = {right}: TensorFlow was mended"
    assert 'UpSampling2D(interpolation="bilinear"), whose second derivative is wrong' in upsampling["layer"]
    assert "contradict one another" in upsampling["operation"]
    assert upsampling["nearest"] == "nothing was raised"


@tensorflow_alone
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_convolutional_network_is_that_of_the_torch_backend() -> None:
    for name, pair in found("tensorflow", "convolutional_network_in_torch").items():
        error = relative_error(pair)
        assert error <= 1e-9, f"{name} is {pair[0]}, on PyTorch {pair[1]} ({error:.1e})"


def test_importing_the_backend_imports_no_framework() -> None:
    program = "import invariant_sharpness_keras, sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "torch"} & set(run.stdout.split())


@pytest.mark.parametrize("model", [object(), 3, "model", [1.0]])
def test_other_objects_are_not_accepted(model: object) -> None:
    assert not backend.accepts(model)
