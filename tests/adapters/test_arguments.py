"""What is given to ``oracle`` in a wrong place or form is answered with what to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import LossError, ModelError
from invariant_sharpness.losses import SquaredError
from invariant_sharpness_numpy import ReluNetwork

NETWORK = ReluNetwork.initialize((3, 2), seed=0)
DATA = np.zeros((4, 3)), np.zeros(4, dtype=int)


@pytest.mark.parametrize(
    ("model", "data", "loss", "error", "message"),
    [
        (DATA, NETWORK, "cross_entropy", ModelError, r"builtins.tuple and the data are a model: write oracle\(model, data\)"),
        (ReluNetwork, DATA, "cross_entropy", ModelError, "the model is the class ReluNetwork: make a model of it"),
        (NETWORK, DATA, SquaredError, LossError, r"loss=SquaredError is a class: make a loss of it, as in SquaredError\(\)"),
        (NETWORK, DATA, "crossentropy", LossError, r"'crossentropy' is not known \(did you mean 'cross_entropy'\?\): take"),
    ],
)  # fmt: skip
def test_advice_is_for_what_was_given(model: Any, data: Any, loss: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ish.oracle(model, data, loss=loss)
