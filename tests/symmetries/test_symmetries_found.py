"""Exactly the symmetries that a derivation by hand gives are found: none missed, none false."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.func import functional_call

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries, find_symmetries
from zoo.derived_symmetries import EXAMPLES

FEW_UNKNOWNS = 12
"""So few that every network is searched by blocks, of which there are at least four for each side of a parameter."""

every_network = pytest.mark.parametrize("name", EXAMPLES)


@cache
def found(name: str, dtype: torch.dtype = torch.float64, max_unknowns: int = 400) -> Symmetries:
    example = EXAMPLES[name]
    x = example.inputs()
    model, targets = example.model().to(dtype), torch.zeros(len(x), dtype=torch.int64)
    oracle = ish.oracle(model, (x if example.tokens else x.to(dtype), targets))
    return find_symmetries(oracle, max_unknowns=max_unknowns)


def difference(symmetries: Symmetries, name: str) -> str:
    texts, expected = {str(generator) for generator in symmetries}, EXAMPLES[name].symmetries
    return f"{len(symmetries)} found, {len(expected)} expected; missed {expected - texts}, false {texts - expected}"


@every_network
def test_those_derived_by_hand_are_found(name: str) -> None:
    symmetries = found(name)
    assert sorted(map(str, symmetries)) == sorted(EXAMPLES[name].symmetries), difference(symmetries, name)


@pytest.mark.slow
@every_network
def test_single_precision_finds_the_same(name: str) -> None:
    symmetries = found(name, torch.float32)
    assert sorted(map(str, symmetries)) == sorted(EXAMPLES[name].symmetries), difference(symmetries, name)


@pytest.mark.slow
@every_network
def test_a_search_by_blocks_finds_the_same(name: str) -> None:
    symmetries = found(name, max_unknowns=FEW_UNKNOWNS)
    assert sorted(map(str, symmetries)) == sorted(EXAMPLES[name].symmetries), difference(symmetries, name)


@every_network
def test_the_search_says_that_it_was_complete(name: str) -> None:
    symmetries = found(name)
    assert symmetries.complete, f"blocks of {symmetries.block_width}, {symmetries.refused} solutions refused"


@every_network
def test_idle_rows_and_columns_are_counted(name: str) -> None:
    assert found(name).idle == EXAMPLES[name].idle, f"{found(name).idle} idle, {EXAMPLES[name].idle} expected"


@every_network
def test_the_model_itself_gives_the_same_outputs_afterwards(name: str) -> None:
    x, model, symmetries = EXAMPLES[name].inputs(), EXAMPLES[name].model(), found(name)
    before = model(x).detach()
    for generator in symmetries:
        exponents = {
            name: torch.as_tensor(np.array(a)) for name, a in generator.variables.exponents(generator.exponents).items()
        }
        moved = {name: p.detach() * 37.0 ** exponents[name] for name, p in model.named_parameters()}
        change = float((functional_call(model, moved, (x,)) - before).abs().max() / before.abs().max())
        assert change <= 1e-10, f"{generator} changes the outputs by {change:.1e}"
        moves = [name for name, p in model.named_parameters() if not torch.equal(moved[name], p)]
        assert moves, f"{generator} moves nothing"
