"""Whatever is wrong with data, losses and arguments is named, with advice, and the model stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, LossError, ModelError, NonFiniteError
from zoo.model_trace import Trace, assert_untouched
from zoo.torch_networks import GOOD, changed, inputs, labels, network

NAN, INFINITY = float("nan"), float("inf")


class Noisy(TensorDataset):
    """Random augmentation."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn_like(x), y


class MapStyle(Dataset):
    """Examples one by one."""

    def __getitem__(self, index: int) -> Any:
        return inputs()[index], labels()[index]

    def __len__(self) -> int:
        return 8


def loader(data: Dataset, **options: Any) -> DataLoader:
    return DataLoader(data, batch_size=3, **options)


DATA: dict[str, tuple[Any, type[Exception], str]] = {
    "empty list": ([], DataError, r"data are empty"),
    "empty arrays": ((inputs(0), labels(0)), DataError, r"data are empty"),
    "empty batch": ([GOOD, (inputs(0), labels(0)), GOOD], DataError, r"batch 1 is empty: leave it out"),
    "generator": ((batch for batch in [GOOD]), DataError, r"one-shot generator.*Pass list\(data\)"),
    "map-style data set": (MapStyle(), DataError, r"type MapStyle.*DataLoader\(data"),
    "number": (3, DataError, r"type int cannot be iterated over: pass \(x, y\)"),
    "lists of numbers": ((inputs().tolist(), labels()), DataError, r"single float instead of arrays.*convert"),
    "lone tensor": (inputs(), DataError, r"batch 0: a batch is a Tensor.*\(inputs, targets\).*forward="),
    "dictionary without labels": ({"x": inputs(), "y": labels()}, DataError, r"keys 'x', 'y', but no 'labels': rename"),
    "batch without tensors": ([("a", "b")], DataError, r"batch 0: .*no array with an axis of examples: yield"),
    "NaN input": ([GOOD, (changed(inputs(), (4, 2), NAN), labels())], NonFiniteError, r"batch 1.*example 4: clean"),
    "infinite input": ((changed(inputs(), (2, 0), INFINITY), labels()), NonFiniteError, r"batch 0.*example 2: clean"),
    "label too large": (
        [GOOD, (inputs(), changed(labels(), 5, 3))],
        DataError,
        r"batch 1: target 3 of example 5.*0 to 2",
    ),
    "negative label": ((inputs(), changed(labels(), 5, -1)), DataError, r"batch 0: target -1 of example 5.*0 to 2"),
    "float labels": ((inputs(), labels().float()), DataError, r"targets have dtype torch.float32.*convert"),
    "a column of labels too many": (
        (inputs(), torch.stack([labels(), labels()], dim=1)),
        DataError,
        r"\(8, 3\) and targets \(8, 2\).*one class label for each row.*or targets of the shape of the outputs",
    ),
    "wrong number of features": (
        (inputs(8, 4), labels()),
        ModelError,
        r"batch 0: .*\(8, 4\).*Check what the model takes",
    ),
    "integer inputs": ((inputs().long(), labels()), ModelError, r"batch 0: .*dtype.*Check what the model takes"),
    "wrong number of rows": ((inputs(), labels(7)), DataError, r"different numbers of examples: 8, 7"),
    "wrong number of rows in a batch": (
        [(inputs(), labels(7))],
        DataError,
        r"batch 0: .*\(8, 3\).*\(7,\).*one class label for each row",
    ),
    "unknown keyword": (
        {"x": inputs(), "labels": labels()},
        ModelError,
        r"no arguments x, and raised TypeError with the dictionary itself.*pass forward=",
    ),
    "augmentation": (loader(Noisy(*GOOD)), DataError, r"change from pass to pass.*switch off random augmentation"),
    "shuffled and cut": (loader(TensorDataset(*GOOD), shuffle=True, drop_last=True), DataError, r"drop_last=True"),
}


@pytest.mark.parametrize("what", DATA)
def test_bad_data_are_named(what: str) -> None:
    data, error, words = DATA[what]
    model = network()
    trace = Trace(model)
    with pytest.raises(error, match=words):
        ish.oracle(model, data)
    assert_untouched(trace)


LOSSES: dict[str, tuple[Any, type[Exception], str]] = {
    "mean": (
        lambda z, y: functional.cross_entropy(z, y),
        LossError,
        r"batch 0: loss '<lambda>' returned shape \(\).*reduction=\"none\"",
    ),
    "matrix": (lambda z, _: z**2, LossError, r"returned shape \(8, 3\) for 8 examples.*shape \(8,\)"),
    "number": (lambda _z, _y: 1.0, LossError, r"returned a float for 8 examples"),
    "unknown name": ("hinge", LossError, r"'hinge' is not known: take one of 'cross_entropy'"),
    "unknown type": (3, LossError, r"type int is not known: pass"),
    "wrong class weights": (nn.CrossEntropyLoss(weight=torch.ones(4)), DataError, r"4 class weights.*3 outputs"),
    "shape for mse": ("mse", DataError, r"outputs have shape \(8, 3\).*\(8,\).*equal shapes"),
}


@pytest.mark.parametrize("what", LOSSES)
def test_bad_loss_is_named(what: str) -> None:
    loss, error, words = LOSSES[what]
    model = network()
    trace = Trace(model)
    with pytest.raises(error, match=words):
        ish.oracle(model, GOOD, loss=loss)
    assert_untouched(trace)


def test_nan_in_a_regression_target_is_named() -> None:
    data = (inputs(), changed(inputs(8, 3), (6, 1), NAN))
    with pytest.raises(NonFiniteError, match=r"array 1 of batch 0.*example 6"):
        ish.oracle(network(), data, loss="mse")


def test_loss_that_is_not_finite_names_example_and_batch() -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.where(targets == 99, INFINITY, 1.0) * outputs.sum(dim=1)

    oracle = ish.oracle(network(), [GOOD, (inputs(), changed(labels(), 3, 99))], loss=loss)
    with pytest.raises(NonFiniteError, match=r"example 3 in batch 1 is -?inf"):
        ish.measure(oracle)


def test_two_outputs_with_normalized_cross_entropy_are_refused() -> None:
    with pytest.raises(LossError, match=r"piecewise constant with K = 2.*use \"cross_entropy\""):
        ish.oracle(nn.Linear(5, 2), (inputs(), labels() % 2), loss="normalized_cross_entropy")


def test_constant_logits_with_normalized_cross_entropy_are_refused() -> None:
    batches = [GOOD, (changed(inputs(), 4, 0.0), labels())]
    with pytest.raises(LossError, match=r"batch 1: .*example 4.*use \"cross_entropy\""):
        ish.oracle(nn.Linear(5, 3, bias=False), batches, loss="normalized_cross_entropy")


def test_labels_that_are_all_ignored_are_refused() -> None:
    oracle = ish.oracle(network(), (inputs(), torch.full((8,), -100)))
    with pytest.raises(DataError, match=r"weights.*add up to zero: every label is ignored"):
        ish.measure(oracle)


@pytest.mark.parametrize("size", [0, -3])
def test_batch_size_has_to_be_positive(size: int) -> None:
    with pytest.raises(DataError, match=rf"batch_size={size}.*at least one"):
        ish.oracle(network(), GOOD, batch_size=size)


@pytest.mark.parametrize("dtype", ["float16", torch.float64])
def test_unknown_precision_is_named(dtype: Any) -> None:
    with pytest.raises(ModelError, match=r"float(16|64)'? is not known: take \"float32\" or \"float64\""):
        ish.oracle(network(), GOOD, dtype=dtype)


def test_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        ish.oracle(network(), GOOD, batchsize=3)


CALLS: dict[str, tuple[Callable[[ish.CurvatureOracle], Any], str]] = {
    "no probes for the diagonal": (partial(ish.hessian_diagonal, probes=0), r"probes=0.*at least 4"),
    "no probes": (partial(ish.measure, probes=0), r"probes=0.*at least 4"),
    "no probes for the norm": (partial(ish.hessian_frobenius_norm, probes=0), r"probes=0.*at least 2"),
    "negative seed": (partial(ish.measure, seed=-1), r"seed=-1.*from 0"),
    "unknown metric": (
        lambda oracle: ish.measure(oracle, ["sharpnes"]),
        r"no metric 'sharpnes' \(did you mean 'matrix_n.*\?\); the metrics are",
    ),
    "unknown group": (
        partial(ish.hessian_diagonal, parameters=frozenset({"9.weight"})),
        r"group 9.weight; the groups are 0",
    ),
}


@pytest.mark.parametrize("what", CALLS)
def test_bad_argument_is_named(what: str) -> None:
    function, words = CALLS[what]
    model = network()
    oracle = ish.oracle(model, GOOD)
    trace = Trace(model)
    with pytest.raises(ValueError, match=words):
        function(oracle)
    assert_untouched(trace)
