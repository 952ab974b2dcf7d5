"""What the command line is given becomes an oracle, or an error that says what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invariant_sharpness import CurvatureOracle
from invariant_sharpness.evaluation.targets import TargetError, load_oracle

SOURCE = """
import numpy as np
import invariant_sharpness as ish
from invariant_sharpness_numpy import ReluNetwork
from neighbour import SIZES

model = ReluNetwork.initialize(SIZES, seed=0)
data = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
ready = ish.oracle(model, data)
pair = model, data
with_loss = model, data, "normalized_cross_entropy"
number = 7

def build(): return ready
def build_pair(): return pair
def build_model(): return model
def needs(x, y, z=1): return ready
def fails(): raise RuntimeError("my own mistake")
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "model_file.py").write_text(SOURCE)
    (tmp_path / "neighbour.py").write_text("SIZES = (4, 8, 3)\n")
    (tmp_path / "broken.py").write_text("import package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["ready", "pair", "with_loss", "build", "build_pair"])
@pytest.mark.parametrize("source", ["model_file.py", "./model_file.py", "model_file"])
def test_oracles_tuples_and_functions_become_oracles(source: str, name: str) -> None:
    assert isinstance(load_oracle(f"{source}:{name}"), CurvatureOracle)


def test_loss_of_a_tuple_is_used() -> None:
    plain, normalized = load_oracle("model_file.py:pair"), load_oracle("model_file.py:with_loss")
    assert plain.loss(plain.parameters) != normalized.loss(normalized.parameters)


@pytest.mark.parametrize(
    "arguments", ["(4, 'a:b')", "(4, y='a:b')", "(x=4, y='a:b', z=[1, (2.5, None)])", "(y='a:b', x=4)"]
)
def test_arguments_are_literals(place: Path, arguments: str) -> None:
    (place / "called.py").write_text(
        "from model_file import ready\nseen = []\n\ndef build(x, y, z=1):\n    seen.append((x, y))\n    return ready\n"
    )
    assert isinstance(load_oracle(f"called.py:build{arguments}"), CurvatureOracle)
    assert sys.modules["called"].seen == [(4, "a:b")]


def test_arguments_that_are_no_literals_run_nothing(place: Path) -> None:
    (place / "never.py").write_text("raise AssertionError\n")
    with pytest.raises(TargetError, match="literals"):
        load_oracle("never.py:build(print('x'))")


def test_file_elsewhere_can_import_its_neighbours(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert isinstance(load_oracle(f"{place / 'model_file.py'}:ready"), CurvatureOracle)


def test_file_named_like_a_module_does_not_replace_it(place: Path) -> None:
    import json

    (place / "json.py").write_text("from model_file import ready\n")
    assert isinstance(load_oracle("json.py:ready"), CurvatureOracle)
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model_file.py", r"'model_file.py' names no oracle: write file.py:name or package.module:name"),
        (":name", r"':name' names no oracle"),
        ("model_file.py:", r"'model_file.py:' names no oracle"),
        ("absent.py:build", r"there is no file 'absent.py' in "),
        ("absent.module:build", r"there is no module 'absent': write package.module:name, or .* file.py:name"),
        (
            "model_file.py:biuld",
            r"there is no 'biuld' in model_file.py \(did you mean 'build'\?\); it has ready, pair, with_loss, build, build_pair, build_model, fails",
        ),
        (
            "model_file.py:number",
            r"model_file.py:number is of type int, but it should be an oracle, a tuple \(model, data\)",
        ),
        ("model_file.py:model", r"model_file.py:model is of type ReluNetwork, but it should be .* \(model, data\)"),
        (
            "model_file.py:build_model",
            r"model_file.py:build_model returned something of type ReluNetwork, but it should return an oracle",
        ),
        ("model_file.py:needs", r"model_file.py:needs takes the arguments x, y, but it is called without any"),
        ("model_file.py:needs(1)", r"cannot be called so: missing a required argument: 'y'; it takes \(x, y, z=1\)"),
        ("model_file.py:needs(x=1, y=2, w=3)", r"got an unexpected keyword argument 'w'; it takes \(x, y, z=1\)"),
        ("model_file.py:number()", r"model_file.py:number\(\) calls something of type int: leave the parentheses out"),
        ("model_file.py:needs(open('x'), 1)", r"the arguments of a target are numbers, strings and other literals"),
        ("model_file.py:needs(**{'x': 1})", r"the arguments of a target are numbers, strings and other literals"),
        ("model_file.py:needs(1, 2", r"names no oracle: write file.py:name"),
        ("model_file.py:needs(1 2)", r"the arguments of a target are numbers, strings and other literals"),
        ("neighbour.py:build", r"there is no 'build' in neighbour.py, and nothing else in it is an oracle"),
    ],
)
def test_wrong_target_is_refused_with_advice(target: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        load_oracle(target)


def test_error_of_the_users_code_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="my own mistake"):
        load_oracle("model_file.py:fails")
    with pytest.raises(ModuleNotFoundError, match="package_that_is_not_there"):
        load_oracle("broken:build")
