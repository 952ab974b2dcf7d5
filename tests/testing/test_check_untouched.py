"""A model that an oracle leaves changed is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import ParameterVector
from invariant_sharpness.testing import CheckFailedError, check_model_untouched
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from zoo.numpy_problem import random_data, random_network


class Borrowed:
    """An oracle that writes the parameters that it is given into the user's model, as many adapters have to."""

    def __init__(self, *, careful: bool) -> None:
        network = random_network(biases=True)
        self.weight = np.array(network.weights[0])
        self._base = NetworkOracle(network, *random_data("cross_entropy"))
        self._careful = careful

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def gradient(self, p: ParameterVector) -> ParameterVector:
        first = self._base.groups[0].name
        before = self.weight.copy()
        try:
            self.weight[...] = p[first]
            result = self._base.gradient(p)
            if not self._careful:
                self.weight[...] = before
            return result
        finally:
            if self._careful:
                self.weight[...] = before

    def snapshot(self) -> dict[str, bytes]:
        return {"weight": self.weight.tobytes()}


def test_model_that_is_put_back_in_a_finally_clause_is_untouched() -> None:
    oracle = Borrowed(careful=True)
    figures = check_model_untouched(oracle.snapshot, oracle)
    assert figures["endings"] > 50, f"only {figures}"


def test_model_that_is_put_back_only_after_success_is_found() -> None:
    oracle = Borrowed(careful=False)
    with pytest.raises(CheckFailedError, match=r"gradient left the model changed after .* \(weight\)"):
        check_model_untouched(oracle.snapshot, oracle)


def test_numpy_network_is_untouched() -> None:
    network = ReluNetwork.initialize((4, 5, 3), seed=0)
    oracle = ish.oracle(network, random_data("cross_entropy"))
    check_model_untouched(lambda: [w.tobytes() for w in network.weights], oracle)
