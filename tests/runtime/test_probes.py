"""The random vectors: which numbers they are, and that nothing but seed, stream and index decides them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from invariant_sharpness import ParameterGroup, prng
from invariant_sharpness_numpy import FunctionOracle

PINNED = ["0x2f4ba6408e4d89b", "0x3dd62b0b9ca8c5b2", "0x1c8667a55d902e79"]
"""The first words of the Philox stream (0, 0), which NumPy starts at counter 1."""

DRAWS = {"signs": prng.signs, "uniform": prng.uniform, "normals": prng.normals}


def oracle_of(*groups: ParameterGroup) -> FunctionOracle:
    """An oracle of a constant loss: only its groups matter here."""
    zeros = {group.name: np.zeros(group.shape) for group in groups}
    return FunctionOracle(zeros, lambda _: 0.0, lambda _: zeros, lambda _p, _v: zeros, groups)


def matrix(name: str, outputs: int, inputs: int, *, transposed: bool = False) -> ParameterGroup:
    if transposed:
        return ParameterGroup(name, (inputs, outputs), "matrix", output_axes=(1,), input_axes=(0,))
    return ParameterGroup(name, (outputs, inputs), "matrix", output_axes=(0,), input_axes=(1,))


def bias(name: str, outputs: int) -> ParameterGroup:
    return ParameterGroup(name, (outputs,), "bias", output_axes=(0,))


def assert_same(values: Any, expected: Any, what: str) -> None:
    assert np.array_equal(values, expected), f"{what}: {values} instead of {expected}"


# --- raw bits -------------------------------------------------------------------------------------


def philox_4x64_10(counter: list[int], key: list[int]) -> list[int]:
    """Salmon et al. (2011), from the paper: ten rounds of two multiplications."""
    mask = 2**64 - 1
    for _ in range(10):
        high0, low0 = divmod(counter[0] * 0xD2E7470EE14C6C93, 2**64)
        high1, low1 = divmod(counter[2] * 0xCA5A826395121157, 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    return counter


@given(seed=st.integers(0, 2**63 - 1), stream=st.integers(0, 2**33), index=st.integers(0, 2**33))
def test_bits_are_those_of_the_philox_paper(seed: int, stream: int, index: int) -> None:
    words = [int(word) for word in prng.random_bits(seed, stream, index, 8)]
    expected = [w for block in (1, 2) for w in philox_4x64_10([block, 0, index, 0], [seed, stream])]
    assert words == expected, f"words {words}, but Philox-4x64-10 gives {expected}"


def test_first_words_are_pinned() -> None:
    words = [hex(int(word)) for word in prng.random_bits(0, 0, 0, 3)]
    assert words == PINNED, f"first words {words}: they have changed, and with them every sampled value"


def test_fewer_words_are_the_beginning_of_more() -> None:
    assert_same(prng.random_bits(5, 2, 7, 3), prng.random_bits(5, 2, 7, 100)[:3], "first three words")


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2**32, 0), (2**62, 0, 0)], ids=str)
def test_another_seed_stream_or_index_gives_other_bits(other: tuple[int, int, int]) -> None:
    here, there = prng.random_bits(0, 0, 0, 1000), prng.random_bits(*other, 1000)
    assert not set(here.tolist()) & set(there.tolist()), f"words of (0, 0, 0) come again in {other}"


def test_positions_of_a_stream_do_not_overlap() -> None:
    draws = np.concatenate([prng.random_bits(3, 4, index, 5000) for index in range(4)])
    repeated = len(draws) - len(np.unique(draws))
    assert repeated == 0, f"{repeated} of {len(draws)} words are repeated"


def test_global_random_state_is_neither_read_nor_changed() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    prng.random_bits(0, 0, 0, 10)
    assert_same(np.random.get_state()[1], state, "global state")  # noqa: NPY002


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed={seed}"):
        prng.random_bits(seed, 0, 0, 1)


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_transposed_kernel_gets_the_transposed_draw(draw: Any) -> None:
    rows = draw(oracle_of(matrix("a", 5, 7), matrix("b", 3, 5)), 1, 2)
    columns = draw(oracle_of(matrix("a", 5, 7, transposed=True), matrix("b", 3, 5, transposed=True)), 1, 2)
    for name in ("a", "b"):
        assert_same(columns[name], rows[name].T, f"transposed {name}")


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_convolution_gets_the_same_draw_in_every_layout(draw: Any) -> None:
    torch = ParameterGroup("kernel", (4, 3, 2, 5), "convolution", output_axes=(0,), input_axes=(1,))
    keras = ParameterGroup("kernel", (2, 5, 3, 4), "convolution", output_axes=(3,), input_axes=(2,))
    moved = np.moveaxis(draw(oracle_of(torch), 1, 2)["kernel"], (0, 1), (3, 2))
    assert_same(draw(oracle_of(keras), 1, 2)["kernel"], moved, "kernel with its channels last")


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_order_between_weights_and_biases_does_not_matter(draw: Any) -> None:
    first, second = matrix("w1", 5, 7), matrix("w2", 3, 5)
    interleaved = draw(oracle_of(first, bias("b1", 5), second, bias("b2", 3)), 1, 2)
    biases_first = draw(oracle_of(bias("b1", 5), first, bias("b2", 3), second), 1, 2)
    biases_last = draw(oracle_of(first, second, bias("b1", 5), bias("b2", 3)), 1, 2)
    for name in ("w1", "b1", "w2", "b2"):
        assert_same(biases_first[name], interleaved[name], f"{name} behind the biases")
        assert_same(biases_last[name], interleaved[name], f"{name} in front of the biases")


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_weights_get_the_same_numbers_with_and_without_biases(draw: Any) -> None:
    weights = (matrix("w1", 5, 7), matrix("w2", 3, 5))
    with_biases = draw(oracle_of(weights[0], bias("b1", 5), weights[1]), 1, 2)
    for name, array in draw(oracle_of(*weights), 1, 2).arrays.items():
        assert_same(with_biases[name], array, name)


def test_groups_of_equal_shape_get_different_numbers() -> None:
    drawn = prng.uniform(oracle_of(matrix("a", 4, 4), matrix("b", 4, 4), bias("c", 4), bias("d", 4)), 0, 0)
    values = np.concatenate([array.ravel() for array in drawn.arrays.values()])
    assert len(np.unique(values)) == 40, f"{len(np.unique(values))} of 40 numbers are different"


# --- distributions --------------------------------------------------------------------------------


def sample(draw: Any, count: int) -> Any:
    oracle = oracle_of(matrix("w", 3, 3), bias("b", 3))
    return np.stack([np.concatenate([a.ravel() for a in draw(oracle, 7, i).arrays.values()]) for i in range(count)])


@pytest.mark.parametrize(("name", "variance"), [("signs", 1.0), ("uniform", 1 / 3), ("normals", 1.0)])
def test_mean_is_zero_and_covariance_is_diagonal(name: str, variance: float) -> None:
    draws = sample(DRAWS[name], 4000)
    mean = float(np.abs(draws.mean(axis=0)).max())
    bound = 5 * np.sqrt(variance / len(draws))
    assert mean < bound, f"largest mean of an entry {mean:.3g}, but five standard errors are {bound:.3g}"
    error = float(np.abs(draws.T @ draws / len(draws) - variance * np.eye(draws.shape[1])).max())
    bound = 5 * variance / np.sqrt(len(draws))
    assert error < bound, f"largest error of the covariance {error:.3g}, but five standard errors are {bound:.3g}"


def test_signs_are_exactly_one_and_minus_one() -> None:
    drawn = prng.signs(oracle_of(matrix("w", 13, 11)), 0, 0)["w"]
    assert set(drawn.ravel().tolist()) == {-1.0, 1.0}, f"entries {np.unique(drawn)}"


def test_uniform_fills_the_half_open_interval() -> None:
    drawn = prng.uniform(oracle_of(matrix("w", 300, 300)), 0, 0)["w"]
    assert -1 <= drawn.min() < -0.9999, f"smallest entry {drawn.min()}"
    assert 0.9999 < drawn.max() < 1, f"largest entry {drawn.max()}"


def test_normals_have_the_normal_distribution() -> None:
    """The test of Kolmogorov and Smirnov, against SciPy's distribution function."""
    drawn = prng.normals(oracle_of(matrix("w", 300, 300)), 0, 0)["w"].ravel()
    p = float(kstest(drawn, norm.cdf).pvalue)
    assert p > 1e-3, f"a distance as large as theirs has the probability {p:.1e}"


def test_normals_are_finite_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantile of the smallest and of the largest word: -8.2 and 8.2, not minus and plus infinity."""
    monkeypatch.setattr(prng, "random_bits", lambda *_: np.array([0, 2**64 - 1], dtype=np.uint64))
    least, largest = prng.normal_values(0, 0, 0, 2)
    assert (least, largest) == (norm.ppf(2.0**-53), norm.isf(2.0**-53)), f"{least} and {largest}"


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("other", [(1, 0), (0, 1)], ids=["seed", "index"])
def test_another_seed_or_index_gives_another_vector(draw: Any, other: tuple[int, int]) -> None:
    oracle = oracle_of(matrix("w", 30, 30))
    here, there = draw(oracle, 0, 0)["w"], draw(oracle, *other)["w"]
    correlation = float(np.corrcoef(here.ravel(), there.ravel())[0, 1])
    assert abs(correlation) < 0.17, f"correlation {correlation:.3f}, but five standard errors are 0.17"


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_same_seed_and_index_give_the_same_vector_whatever_was_drawn_before(draw: Any) -> None:
    oracle = oracle_of(matrix("w", 9, 9))
    first = draw(oracle, 0, 3)["w"]
    draw(oracle, 0, 4)
    assert_same(draw(oracle, 0, 3)["w"], first, "second draw")


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_scalar_parameter_gets_a_scalar(draw: Any) -> None:
    drawn = draw(oracle_of(ParameterGroup("scale", ())), 0, 0)
    assert drawn["scale"].shape == (), f"a scalar parameter got a probe of shape {drawn['scale'].shape}"
