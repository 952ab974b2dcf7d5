"""The options of an oracle: each backend lists its own, and what is none of them is refused by name."""

from __future__ import annotations

import importlib
from inspect import Parameter, signature

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.adapters.registry import OracleOptions, backend
from invariant_sharpness_numpy import ReluNetwork

NETWORK = ReluNetwork.initialize((3, 2), seed=0)
DATA = np.zeros((4, 3)), np.zeros(4, dtype=int)


@pytest.mark.parametrize("name", ["torch", "jax", "keras"])
def test_listed_options_are_those_that_the_backend_takes(name: str) -> None:
    pytest.importorskip(name)
    build = importlib.import_module(f"invariant_sharpness_{name}.building").build_oracle
    taken = {key for key, value in signature(build).parameters.items() if value.kind is Parameter.KEYWORD_ONLY}
    assert backend(name).options == taken, f"{name} lists {sorted(backend(name).options)} and takes {sorted(taken)}"


def test_options_are_typed_for_all_backends() -> None:
    listed = frozenset().union(*(backend(name).options for name in ("numpy", "torch", "jax", "keras")))
    assert OracleOptions.__annotations__.keys() == listed, f"{sorted(listed)} are listed"


def test_unknown_option_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match=r"NumPy backend has no option 'batchsize'.* Did you mean batch_size\?"):
        ish.oracle(NETWORK, DATA, batchsize=2)


def test_option_of_another_backend_is_refused() -> None:
    with pytest.raises(TypeError, match="NumPy backend has no option 'microbatch'; its options are batch_size"):
        ish.oracle(NETWORK, DATA, microbatch=2)
