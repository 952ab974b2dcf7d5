"""The last step of the search, in which every exponent is an unknown of its own: by itself, and after single units and groups."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.linalg import null_space
from scipy.sparse import csc_array
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.symmetries import Symmetries, find_symmetries
from invariant_sharpness.symmetries.scaling_variables import ScalingVariables
from invariant_sharpness.symmetries.search.complement import sparse_complement
from invariant_sharpness.symmetries.search.equations import gather_equations
from invariant_sharpness.symmetries.search.points import RandomPoints, spread_examples
from invariant_sharpness.symmetries.search.refinement import Search
from invariant_sharpness.symmetries.search.remainder import Remainder
from zoo.derived_symmetries import EXAMPLES

FEW = ("residual", "concatenation")


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES]
)
def test_it_finds_those_derived_by_hand_when_nothing_is_known(name: str) -> None:
    x = EXAMPLES[name].inputs()
    oracle = ish.oracle(EXAMPLES[name].model(), (x, torch.zeros(len(x), dtype=torch.int64)))
    variables = ScalingVariables(oracle.groups)
    equations = gather_equations(RandomPoints(spread_examples(oracle, 8), 0), variables, len(variables) + 32)
    search = Search(equations, [], 2.0**-52)
    search.among_all()
    texts, expected = {str(generator) for generator in search.known}, EXAMPLES[name].symmetries
    assert len(search.known) == len(expected), f"{len(search.known)} found, {len(expected)} expected"
    assert texts == expected, f"missed {expected - texts}, false {texts - expected}"


class EveryOther(nn.Module):
    """ReLU on units of even number, tanh on the others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(x.shape[-1]) % 2 == 0, x.relu(), x.tanh())


class Concatenated(nn.Module):
    """Two layers side by side, whose units have other numbers in the columns of what reads them, and a layer of ReLU."""

    def __init__(self, first: int, second: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, first), nn.Linear(4, second)
        self.hidden, self.head = nn.Linear(first + second, hidden), nn.Linear(hidden, 3)
        self.activation = EveryOther()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.activation(self.first(x)), self.activation(self.second(x))], dim=1)
        return self.head(self.hidden(both).relu())


def of_units(first: int, second: int, hidden: int) -> set[str]:
    """What can be rescaled: units of ReLU, by what reads them."""
    read = [("first", "hidden", i, i) for i in range(0, first, 2)]
    read += [("second", "hidden", i, first + i) for i in range(0, second, 2)]
    read += [("hidden", "head", i, i) for i in range(hidden)]
    return {f"{layer}.weight[{i}], {layer}.bias[{i}] up, {reader}.weight[:, {j}] down" for layer, reader, i, j in read}


@cache
def concatenated(widths: tuple[int, int, int], max_unknowns: int, dtype: torch.dtype = torch.float64) -> Symmetries:
    torch.manual_seed(0)
    model, x = Concatenated(*widths).to(dtype), torch.randn(40, 4, dtype=dtype)
    return find_symmetries(ish.oracle(model, (x, torch.arange(40) % 3)), max_unknowns=max_unknowns)


SMALL, LARGE = (7, 5, 20), (211, 223, 101)


def test_units_of_a_concatenation_are_found_and_the_search_is_complete() -> None:
    symmetries, expected = concatenated(SMALL, 95), of_units(*SMALL)
    texts = set(map(str, symmetries))
    assert texts == expected, f"missed {sorted(expected - texts)}, false {sorted(texts - expected)}"
    assert symmetries.complete, f"groups of {symmetries.block_width}, {symmetries.refused} refused"
    assert "groups" not in str(symmetries), str(symmetries)


def test_beyond_the_number_of_unknowns_they_are_missed_and_it_says_so() -> None:
    symmetries, expected = concatenated(SMALL, 60), of_units(*SMALL)
    texts = set(map(str, symmetries))
    assert texts < expected, f"{len(texts)} of {len(expected)} found, false {sorted(texts - expected)}"
    assert not symmetries.complete, f"complete, with groups of {symmetries.block_width}"
    assert f"groups of up to {symmetries.block_width}" in str(symmetries), str(symmetries)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hundreds_of_units_of_a_concatenation_are_found_by_default(dtype: torch.dtype) -> None:
    symmetries, expected = concatenated(LARGE, 10_000, dtype), of_units(*LARGE)
    texts = set(map(str, symmetries))
    assert texts == expected, f"missed {sorted(expected - texts)[:3]}, false {sorted(texts - expected)[:3]}"
    assert symmetries.complete, f"groups of {symmetries.block_width}, {symmetries.refused} refused"


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_perceptron_of_images_is_searched_completely_by_default(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(1024, 300), activation(), nn.Linear(300, 100), activation(), nn.Linear(100, 10)))
    symmetries = find_symmetries(ish.oracle(model, (torch.randn(8, 1024), torch.arange(8))))
    expected = 400 * (activation is nn.ReLU)
    assert len(symmetries) == expected, f"{len(symmetries)} of {expected} found:\n{symmetries}"
    assert symmetries.complete, str(symmetries)
    assert symmetries.gap > 100, f"gap {symmetries.gap:.1e}: rounding could have been taken for a solution"


@pytest.mark.parametrize("seed", range(3))
def test_the_complement_of_sparse_vectors_is_that_of_dense_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(30, 9)) * (random.random((30, 9)) < 0.12)
    vectors = vectors[:, vectors.any(axis=0)]
    found = sparse_complement(csc_array(vectors)).toarray()
    expected = null_space(vectors.T)
    assert found.shape == expected.shape, f"{found.shape[1]} vectors, {expected.shape[1]} expected"
    difference = np.abs(found @ found.T - expected @ expected.T).max()
    assert difference < 1e-12, f"the projections differ by {difference:.1e}"


@pytest.mark.parametrize(("most", "expected"), [(6, [[0, 1, 2, 3, 4, 5]]), (5, [[0, 1], [2, 3]])])
def test_vectors_are_made_sparser_with_all_variables_of_their_trivial_directions(
    most: int, expected: list[list[int]]
) -> None:
    """Two vectors of two variables each, a trivial direction of both and of two others, and a variable that is alone."""
    vectors = np.array([[1.0, -1, 0, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0, 0]])
    trivial = csc_array(np.array([[0.0, 1, 1, 0, 1, -1, 0]]).T)
    found = [variables.tolist() for variables, _ in Remainder(vectors, trivial, 1.0).clusters(most)]
    assert found == expected, f"at most {most} variables are searched together: {found}"
