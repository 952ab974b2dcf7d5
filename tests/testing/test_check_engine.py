"""check_engine passes engines of the library, and names each way to break the contract."""

from __future__ import annotations

import runpy
from typing import Any

import numpy as np
import pytest

from invariant_sharpness.testing import CheckFailedError, check_engine
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
from invariant_sharpness_numpy.engine import NumpyEngine, NumpyPoint
from zoo import ROOT

RNG = np.random.default_rng(0)
BATCH = RNG.normal(size=(7, 3)), RNG.integers(0, 2, 7)
WEIGHTS = RNG.normal(size=(4, 3)), RNG.normal(size=(2, 4))


def engine() -> Any:
    return NetworkOracle(ReluNetwork(WEIGHTS), *BATCH).engine


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_engine_of_numpy_passes(size: int) -> None:
    results = check_engine(engine(), tuple(part[:size] for part in BATCH))
    assert [result.status for result in results] == ["passed"] * 4, "\n".join(map(str, results))


def test_an_engine_that_offers_little_passes() -> None:
    oracle = runpy.run_path(str(ROOT / "docs" / "examples" / "engine_of_a_new_framework.py"))["oracle"]()
    results = check_engine(oracle.engine, tuple(oracle.all_examples()))
    assert [result.status for result in results] == ["passed"] * 4, "\n".join(map(str, results))


def mean(point: NumpyPoint, batch: Any) -> Any:
    sums = NumpyPoint.gradient(point, batch)
    return sums._replace(arrays=tuple({k: a / sums.weight for k, a in one.items()} for one in sums.arrays))


def every_group(point: NumpyPoint, _names: Any, cotangents: Any, batch: Any) -> Any:
    return NumpyPoint.squares(point, frozenset({"layers.0.weight", "layers.1.weight"}), cotangents, batch)


def signs_of_the_batch(point: NumpyPoint, names: Any, cotangents: Any, batch: Any) -> Any:
    draws = cotangents.draws and cotangents.draws._replace(start=0)
    return NumpyPoint.squares(point, names, cotangents._replace(draws=draws), batch)


def remembering(point: NumpyPoint, batch: Any, calls: list[int] = []) -> Any:  # noqa: B006 - it is meant to remember
    calls.append(1)
    sums = NumpyPoint.losses(point, batch)
    return sums._replace(value=sums.value + 1e-15 * len(calls) * (len(calls) > 5))


MISTAKES: dict[str, tuple[str, Any, str]] = {
    "mean": ("gradient", mean, "check_cut: gradient of a batch differs by"),
    "all groups": ("squares", every_group, "check_sums: squares"),
    "signs of the batch": ("squares", signs_of_the_batch, 'check_cut: squares of "sampled" of a batch'),
    "memory": ("losses", remembering, "check_purity: losses gave two results"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, wrong, words = MISTAKES[what]
    monkeypatch.setattr("invariant_sharpness_numpy.engine.NumpyPoint", type("Broken", (NumpyPoint,), {method: wrong}))
    with pytest.raises(CheckFailedError, match=words):
        check_engine(engine(), BATCH)


def test_an_engine_that_reads_in_every_batch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    held = engine()
    losses = NumpyPoint.losses

    def reading(point: NumpyPoint, batch: Any) -> Any:
        sums = losses(point, batch)
        return sums._replace(value=held.read(sums.value))

    monkeypatch.setattr(NumpyPoint, "losses", reading)
    with pytest.raises(CheckFailedError, match="check_reads: loss over 3 batches read 4 times"):
        check_engine(held, BATCH)


def test_parameters_that_stay_elsewhere_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    at = NumpyEngine.at

    def leaving(held: NumpyEngine, parameters: Any) -> Any:
        held._network = ReluNetwork(tuple(parameters[f"layers.{k}.weight"] for k in range(2)))
        return at(held, parameters)

    monkeypatch.setattr(NumpyEngine, "at", leaving)
    with pytest.raises(CheckFailedError, match="check_purity: losses left the model at other parameters"):
        check_engine(engine(), BATCH)


def test_one_example_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two examples"):
        check_engine(engine(), tuple(part[:1] for part in BATCH))
