"""Several processes that have the data together, against one that has all of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from zoo import torch_processes
from zoo.torch_processes import PARTS, in_processes

pytestmark = pytest.mark.slow


def same_everywhere(found: list[Any]) -> Any:
    """What all processes give, bit by bit."""
    for error in found:
        if isinstance(error, BaseException):
            raise error
    for rank, other in enumerate(found[1:], start=1):
        for name, value in found[0].items():
            assert np.array_equal(value, other[name]), (
                f"{name} is {value} in process 0, {other[name]} in process {rank}"
            )
    return found[0]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("kind", ["relu", "gelu"])
def test_default_metrics_are_those_of_one_process_with_all_data(kind: str, parts: str) -> None:
    bounds = PARTS[parts]
    found = same_everywhere(in_processes(len(bounds) - 1, torch_processes.default_set, kind, bounds))
    expected = torch_processes.metrics(ish.oracle(torch_processes.network(kind), torch_processes.data(), batch_size=8))
    assert found.keys() == expected.keys(), f"{list(found)} instead of {list(expected)}"
    for name, (value, error) in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-12), f"{name}: {found[name][0]} instead of {value}"
        assert found[name][1] == pytest.approx(error, rel=1e-9, abs=1e-12), f"error of {name}: {found[name][1]}"


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_example_of_a_distributed_sampler_counts_once(drop_last: bool) -> None:
    found = same_everywhere(in_processes(2, torch_processes.with_sampler, drop_last))
    expected = torch_processes.few(ish.oracle(torch_processes.network("relu"), torch_processes.data()))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-15), f"{name}: {found[name]} instead of {value}"
    assert found["without gradients"], "measuring has left gradients in the parameters"


@pytest.mark.skipif(not find_spec("accelerate"), reason="accelerate is not installed")
def test_model_and_loader_of_accelerate() -> None:
    found = same_everywhere(in_processes(2, torch_processes.with_accelerate))
    expected = torch_processes.few(ish.oracle(torch_processes.network("relu"), torch_processes.data()))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-15), f"{name}: {found[name]} instead of {value}"


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("sampler_alone", ish.errors.DataError, "process_group=torch.distributed.group.WORLD"),
        ("bad_example", ish.errors.NonFiniteError, "process 1: array 0 of batch 0"),
        ("raising_later", ish.errors.ModelError, "process 1: ZeroDivisionError"),
        ("other_model", ish.errors.ModelError, "'2.bias' of the model is not the same in process 1"),
        ("other_loss", ish.errors.ProcessError, "the loss is cross_entropy in process 0, but mse in process 1"),
        ("other_reduction", ish.errors.ProcessError, "the reduction of the loss is mean in process 0, but sum"),
        ("other_smoothing", ish.errors.ProcessError, "label_smoothing of the loss"),
        ("other_closure", ish.errors.ProcessError, "is 1.0 in process 0, but 2.0 in process 1"),
        ("other_seed", ish.errors.ProcessError, "such as the same seed"),
        ("other_samples", ish.errors.ProcessError, "such as the same seed"),
        ("other_activation", ish.errors.ProcessError, "the module '1' is ReLU in process 0, but GELU in process 1"),
        ("other_frozen", ish.errors.ProcessError, "but not measured in process 1"),
        ("error_of_own_kind", ish.errors.DataError, "process 1: images, 3"),
        ("same_data", ish.errors.DataError, "processes have the same 37 examples"),
    ],
)
def test_what_is_wrong_in_one_process_ends_all_with_one_error(program: str, kind: type[Exception], words: str) -> None:
    for rank, error in enumerate(in_processes(2, getattr(torch_processes, program))):
        assert type(error) is kind, f"process {rank}: {error!r}"
        assert words in str(error), f"process {rank}: {error}"


def test_parts_that_overlap_are_warned_of() -> None:
    for messages in in_processes(2, torch_processes.overlapping):
        (message,) = messages
        assert message.startswith("1 of the examples are in the parts of several processes"), message


def test_process_that_dies_leaves_no_other_waiting() -> None:
    *others, last = in_processes(4, torch_processes.dying)
    assert last is None
    assert {type(error) for error in others} == {ish.errors.ProcessError}, f"{others}"


def test_checkpoint_is_used_by_the_first_process_and_resumes_all(tmp_path: Path) -> None:
    found = in_processes(2, torch_processes.resumed, str(tmp_path))
    (values, once, _), (others, _, _) = found
    assert values == others, f"{values} and {others}"
    assert values[1] == once, f"{values[1]} resumed, {once} in one go"
    assert [exists for *_, exists in found] == [True, False]
