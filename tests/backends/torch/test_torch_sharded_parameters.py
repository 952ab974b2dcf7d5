"""Models whose parameters are divided between two processes, against one process that has the whole model; what is refused, by name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

import invariant_sharpness as ish
from zoo import sharded_models
from zoo.sharded_models import EMPTY, KINDS, UNEVEN
from zoo.torch_processes import data, in_processes
from zoo.torch_processes import network as relu_network

pytestmark = pytest.mark.slow

CASES = [("fully_shard", tuple(UNEVEN)), ("fully_shard", tuple(EMPTY)), ("tensor parallel", tuple(UNEVEN))]


@cache
def found(kind: str, bounds: tuple[int, ...]) -> list[Any]:
    answers = in_processes(2, sharded_models.measured, kind, list(bounds))
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


@cache
def whole() -> Any:
    return ish.oracle(sharded_models.network(), data(), batch_size=8)


@pytest.mark.parametrize(("kind", "bounds"), CASES)
def test_losses_and_gradients_are_those_of_one_process(kind: str, bounds: tuple[int, ...]) -> None:
    first, second = (answer["exact"] for answer in found(kind, bounds))
    for name, value in sharded_models.values(whole()).items():
        assert np.array_equal(first[name], second[name]), f"{name} is {first[name]} and {second[name]}"
        assert first[name] == pytest.approx(value, rel=1e-12, abs=1e-15), f"{name}: {first[name]} instead of {value}"


@pytest.mark.parametrize(("kind", "bounds"), CASES)
def test_differences_are_as_wrong_as_they_say_at_most(kind: str, bounds: tuple[int, ...]) -> None:
    first, second = (answer["differences"] for answer in found(kind, bounds))
    assert first == second
    for name, (value, exact_error) in sharded_models.estimates(whole()).items():
        measured, error = first[name]
        assert abs(measured - value) <= error + exact_error, f"{name}: {measured} instead of {value}, ± {error}"
        assert 0 < error <= 1e-6 * abs(value), f"error of {name}: {error}"


@pytest.mark.parametrize(("kind", "bounds"), CASES)
def test_normalized_sharpness_of_gauss_newton_is_within_its_error(kind: str, bounds: tuple[int, ...]) -> None:
    first, second = (answer["(17)"] for answer in found(kind, bounds))
    value, (low, high), method = first
    exact = ish.normalized_sharpness(ish.GaussNewton(whole())).value
    assert first == second
    assert "samples of the outputs" in method
    assert low <= exact <= high, f"{value}, between {low} and {high}, instead of {exact}"
    assert high - low < exact, f"{low} to {high} says nothing of {exact}"


@pytest.mark.parametrize(("kind", "bounds"), CASES)
def test_model_is_as_it_was_and_no_process_has_all_of_it(kind: str, bounds: tuple[int, ...]) -> None:
    parameters = sum(parameter.numel() for parameter in sharded_models.network().parameters())
    expected = sharded_models.network()(data()[0]).detach().numpy()
    for answer in found(kind, bounds):
        assert answer["same"], "parameters or gradients have changed"
        assert answer["outputs"] == pytest.approx(expected, rel=1e-12)
        assert answer["mine"] == answer["vector"] < parameters


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    expected = [
        "ArgumentError: the model went through fully_shard.*process_group=mesh.get_group()",
        "ArgumentError: process_group is given, but the parameters are divided by tensor parallelism",
        "DataError: the parameters are divided by tensor parallelism.*different ones",
        "ModelError: parameter '2.weight' is not divided, though others went through fully_shard",
        "ModelError: parameter '0.weight' has dtype torch.bfloat16",
        "ModelError: fully_shard has a mixed precision policy for FSDPSequential",
        "ModelError: the gradient of this model is not that of its loss",
        "ModelError: dtype='float32' would copy the model",
        "ModelError: examples='batches' is not known",
        "NonFiniteError: process 1: array 0 of batch 0",
        "DataError: batch 0: process 1: target",
        r"MissingCapabilityError: derivatives of single examples.*form='full'",
        "ProcessError: the processes compute different things.*seed",
        "nothing raised: ",
    ]
    for rank, messages in enumerate(in_processes(2, sharded_models.refused)):
        assert not isinstance(messages, BaseException), repr(messages)
        for message, pattern in zip(messages, expected, strict=True):
            assert re.match(pattern, message, re.DOTALL), f"process {rank}: {message!r}, not {pattern!r}"


@pytest.mark.parametrize("kind", KINDS)
def test_process_that_dies_leaves_the_other_with_an_error(kind: str) -> None:
    error, last = in_processes(2, sharded_models.dying, kind)
    assert last is None
    assert isinstance(error, ish.errors.ProcessError), repr(error)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_resumes_shards_of_all_processes(kind: str, tmp_path: Path) -> None:
    first, second = in_processes(2, sharded_models.resumed, kind, str(tmp_path))
    assert first == second, f"{first} and {second}"
    assert first["resumed"] == first["in one go"]
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_wrapper_of_the_first_kind_is_refused_before_anything_is_touched() -> None:
    model = nn.Sequential(relu_network("relu"))
    # what the wrapper does needs an accelerator; its class says what it is
    model[0].__class__ = type("Wrapped", (FullyShardedDataParallel,), {"forward": nn.Sequential.forward})
    with pytest.raises(ish.errors.ModelError, match="module '0' went through FullyShardedDataParallel"):
        ish.oracle(model, data())
