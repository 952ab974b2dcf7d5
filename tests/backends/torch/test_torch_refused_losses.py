"""Losses of torch that cannot be measured are refused by name, and what the messages advise works."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import invariant_sharpness as ish
from invariant_sharpness.errors import DataError, LossError
from zoo.torch_losses import (
    CLASSES,
    LABELS,
    MIXED,
    NUMBERS,
    OF_CLASS_TWO_NOTHING,
    SIGNS,
    SOFT,
    N,
    X,
    assert_agrees,
    network,
)

REFUSED: dict[str, tuple[Any, torch.Tensor, type[Exception], str]] = {
    "variance": (nn.GaussianNLLLoss(), NUMBERS, LossError, r"GaussianNLLLoss takes a variance.*lambda outputs"),
    "variance of a function": (functional.gaussian_nll_loss, NUMBERS, LossError, r"GaussianNLLLoss takes a variance"),
    "lengths": (nn.CTCLoss(), LABELS, LossError, r"CTCLoss takes the lengths.*no second derivative"),
    "triplets": (nn.TripletMarginLoss(), LABELS, LossError, r"pairs or triplets"),
    "unknown option": (partial(functional.mse_loss, scale=2), NUMBERS, LossError, r"mse_loss with scale is not known"),
    "smooth label of weight zero": (
        nn.CrossEntropyLoss(weight=OF_CLASS_TWO_NOTHING, label_smoothing=0.1),
        LABELS,
        LossError,
        r"weight of a label is zero.*ignore_index=.*reduction=\"sum\"",
    ),
    "negative masses": (nn.CrossEntropyLoss(), NUMBERS, DataError, r"class probabilities, but.*no numbers from 0"),
    "labels of signs": (
        nn.BCEWithLogitsLoss(),
        SIGNS,
        DataError,
        r"probabilities, but some are below 0.*labels 0 and 1",
    ),
    "weights of examples": (nn.BCEWithLogitsLoss(weight=torch.ones(N, 1)), SOFT, LossError, r"same for every example"),
    "weights of other outputs": (
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)),
        SOFT,
        LossError,
        r"shape \(3,\) for out",
    ),
    "negative counts": (nn.PoissonNLLLoss(), NUMBERS, DataError, r"counts, but some are negative"),
    "ignored label in a margin": (nn.MultiMarginLoss(), LABELS, DataError, r"target -100 of example 5"),
    "number of labels": (nn.CrossEntropyLoss(), LABELS[:, None].repeat(1, 2), DataError, r"or targets of the shape of"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_is_refused_by_name(what: str) -> None:
    loss, targets, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        ish.oracle(network(), (X, targets), loss=loss)


def test_advice_for_the_variance_works() -> None:
    with pytest.raises(LossError) as raised:
        ish.oracle(network(2), (X, NUMBERS[:, 0]), loss=nn.GaussianNLLLoss())
    loss = eval(str(raised.value).split("and pass ")[1], {"torch": torch})  # what the message says
    gaussian = nn.GaussianNLLLoss()
    assert_agrees(network(2), X, NUMBERS[:, 0], loss, lambda z, t: gaussian(z[:, 0], t, z[:, 1].exp()))


def test_advice_for_a_smooth_label_of_weight_zero_works() -> None:
    options = {"weight": OF_CLASS_TWO_NOTHING, "label_smoothing": 0.1}
    for loss in (nn.CrossEntropyLoss(ignore_index=2, **options), nn.CrossEntropyLoss(reduction="sum", **options)):
        targets = LABELS.where(LABELS >= 0, 2) if loss.ignore_index == 2 else LABELS
        assert_agrees(network(), X, targets, loss, loss)


SOFTMAX = {
    "cross_entropy": CLASSES,
    "normalized_cross_entropy": CLASSES,
    nn.CrossEntropyLoss(): CLASSES,
    nn.CrossEntropyLoss(label_smoothing=0.1): MIXED,
}


@pytest.mark.parametrize("loss", SOFTMAX, ids=str)
@pytest.mark.parametrize("batch_size", [1, N])
def test_probabilities_are_refused_and_both_ways_out_work(loss: Any, batch_size: int) -> None:
    model, targets = network(), SOFTMAX[loss]
    with pytest.raises(LossError, match=r"outputs are probabilities.*without its last softmax.*log_softmax"):
        ish.oracle(nn.Sequential(model, nn.Softmax(1)), (X, targets), loss=loss, batch_size=batch_size)
    plain, log = (
        ish.oracle(form, (X, targets), loss=loss, batch_size=batch_size)
        for form in (model, nn.Sequential(model, nn.LogSoftmax(1)))
    )
    assert log.loss(log.parameters) == pytest.approx(plain.loss(plain.parameters), rel=1e-12)


def test_half_precision_probabilities_are_refused() -> None:
    model = nn.Sequential(network(), nn.Softmax(1)).to(torch.bfloat16)
    with pytest.raises(LossError, match="outputs are probabilities"):
        ish.oracle(model, (X, CLASSES))


def test_binary_cross_entropy_by_name_is_what_the_message_for_one_output_offers() -> None:
    targets = (NUMBERS[:, :1] > 0).double()
    with pytest.raises(LossError, match=r'single output is zero.*"binary_cross_entropy"'):
        ish.oracle(network(1), (X, targets[:, 0].long()))
    assert_agrees(network(1), X, targets, "binary_cross_entropy", functional.binary_cross_entropy_with_logits)


def y_true_first(y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
    return (y_pred - y_true).square().mean(1)


def test_functions_that_take_the_targets_first_are_refused_and_the_advice_works() -> None:
    with pytest.raises(
        LossError, match=r"takes \(targets, outputs\).*lambda outputs, targets: loss\(targets, outputs\)"
    ):
        ish.oracle(network(), (X, NUMBERS), loss=y_true_first)
    assert_agrees(network(), X, NUMBERS, lambda o, t: y_true_first(t, o), functional.mse_loss)
