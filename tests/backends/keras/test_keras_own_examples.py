"""Losses, outputs and derivatives of an example are its own, or are refused by name, on every engine."""

from __future__ import annotations

import pytest

from zoo.keras_results import TOLERANCE, every_engine_deep, found, relative_error


@every_engine_deep
@pytest.mark.parametrize("name", ["contrastive", "balanced", "paired"])
def test_loss_that_sees_other_examples_is_refused(engine: str, name: str) -> None:
    message = found(engine, "joint_losses")[name]
    for words in ("LossError", f"loss '{name}'", "no example has a loss of its own", 'pass examples="batches"'):
        assert words in message, message


@every_engine_deep
def test_loss_of_its_own_example_is_measured(engine: str) -> None:
    losses = found(engine, "own_losses")
    for what, loss in losses.items():
        assert loss == pytest.approx(losses["11"], rel=1e-9 if engine == "tensorflow" else 1e-6), what


@every_engine_deep
def test_loss_that_counts_rows_counts_those_of_the_batch(engine: str) -> None:
    values = found(engine, "losses_that_count_rows")
    for what, numbers in values.items():
        assert numbers == pytest.approx(values["plain"], rel=1e-9 if engine == "tensorflow" else 1e-4), what


@every_engine_deep
def test_diagonal_is_divided_by_examples_under_several_targets(engine: str) -> None:
    pair = found(engine, "diagonal_under_several_targets")
    assert relative_error(pair) <= TOLERANCE[engine], f"with two targets {pair[0]}, with one {pair[1]}"


PENALTIES = ("weight decay", "decay of zeros", "cut out of the graph", "the model once more", "with sample weights")


@every_engine_deep
@pytest.mark.parametrize("what", PENALTIES)
def test_loss_that_sees_the_parameters_is_refused(engine: str, what: str) -> None:
    message = found(engine, "losses_of_the_parameters")[what]
    for words in ("LossError", "beside the outputs", "return the penalty as one more output"):
        assert words in message, message


@every_engine_deep
def test_loss_by_way_of_numpy_is_refused(engine: str) -> None:
    message = found(engine, "loss_by_way_of_numpy")
    assert message.startswith("LossError"), message
    assert "numpy" in message, message


@every_engine_deep
@pytest.mark.parametrize("loss", ["cross_entropy", "log_cosh"])
def test_loss_by_name_of_several_targets_is_refused(engine: str, loss: str) -> None:
    message = found(engine, "named_losses_of_several_targets")[loss]
    for words in ("LossError", f"loss '{loss}' takes one array of targets, but a batch has a tuple of 2"):
        assert words in message, message


@every_engine_deep
@pytest.mark.parametrize("what", ["gradient reversal", "straight through", "cut off in part"])
def test_derivatives_that_are_not_those_of_the_outputs_are_refused(engine: str, what: str) -> None:
    message = found(engine, "derivatives")[what]
    for words in ("ModelError", "are not those of its outputs", "backward pass of its own"):
        assert words in message, message


@every_engine_deep
@pytest.mark.parametrize(
    "what", ["silu", "relu", "softmax", "log of a sum", "a derivative of its own", "shifted by a constant"]
)
def test_right_derivatives_are_not_refused(engine: str, what: str) -> None:
    assert found(engine, "derivatives")[what] == "nothing was raised"


@every_engine_deep
@pytest.mark.parametrize("what", ["centered", "against the last", "neighbors", "a later batch"])
def test_mixed_examples_are_refused(engine: str, what: str) -> None:
    message = found(engine, "mixtures")[what]
    for words in ("ModelError", "mixes the examples", 'pass examples="batches"'):
        assert words in message, message


@every_engine_deep
def test_one_example_is_not_mixed(engine: str) -> None:
    assert found(engine, "mixtures")["one example"] == "nothing was raised"
