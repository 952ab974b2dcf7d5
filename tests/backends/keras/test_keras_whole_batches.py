"""A batch that is one example: values in Keras are those of dense derivatives of the mean over batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.installed import missing
from zoo.keras_results import TOLERANCE, every_engine_deep, found, relative_error

if missing("torch"):
    pytest.skip("torch is not installed", allow_module_level=True)

from zoo.joint_references import dense, dense_of_graphs

WAVE = np.concatenate([np.cos(np.arange(12)), np.cos(np.arange(8))])


def assert_agree(values: dict[str, Any], right: dict[str, Any], engine: str) -> None:
    tolerance = TOLERANCE[engine]
    for what, value in right.items():
        np.testing.assert_allclose(
            values[what], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=what
        )
    assert values["examples"] == [2, 12], "examples are not whole batches"


@every_engine_deep
def test_values_are_means_over_batches(engine: str) -> None:
    expected = dense("contrastive")
    right = {
        "loss": expected["loss"],
        "gradient": expected["gradient"],
        "product": expected["hessian"] @ WAVE,
        "Gauss-Newton product": expected["gauss_newton"] @ WAVE,
        "Gauss-Newton diagonal": np.diag(expected["gauss_newton"]),
        "second moment": expected["moment"],
    }
    assert_agree(found(engine, "values_of_whole_batches"), right, engine)


@every_engine_deep
def test_graphs_in_dictionaries_are_whole_examples(engine: str) -> None:
    expected = dense_of_graphs()
    right = {"loss": expected["loss"], "gradient": expected["gradient"], "product": expected["hessian"] @ WAVE}
    assert_agree(found(engine, "graphs_in_dictionaries"), right, engine)


@every_engine_deep
def test_loss_of_rows_is_averaged_over_each_batch(engine: str) -> None:
    for what, pair in found(engine, "losses_of_rows").items():
        assert relative_error(pair) <= 1e-6, f"{what} is {pair[0]}, by hand {pair[1]}"


@every_engine_deep
def test_diagonal_is_right_where_the_first_batch_has_one_row(engine: str) -> None:
    together, mean = found(engine, "single_rows_before_several")
    np.testing.assert_allclose(together, mean, rtol=TOLERANCE[engine], atol=TOLERANCE[engine] * max(mean))


REFUSED = {
    "one loss for each row": ["LossError", "returned shape (4,) for a batch", "take their mean"],
    "sample weights": ["DataError", "sample weights", "put the weights beside the targets"],
    "another kind": ["DataError", "examples='graphs', but an example is a row of a batch"],
    "label": ["DataError", "target 2 of example 1"],
}


@every_engine_deep
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_loss_of_a_batch_is_refused(engine: str, what: str) -> None:
    message = found(engine, "refused_batches")[what]
    for words in REFUSED[what]:
        assert words in message, message
