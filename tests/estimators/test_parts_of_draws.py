"""Parts of draws, whose differences tell the error: no draw is left out, and parts that are longer by one leave the error right."""

from __future__ import annotations

import tracemalloc
from itertools import chain

import numpy as np
import pytest

from invariant_sharpness import ParameterGroup, memory_limit
from invariant_sharpness.estimators.parts_of_draws import compensated, equal_parts
from invariant_sharpness.estimators.probed_diagonal import probed_groups
from invariant_sharpness_numpy import FunctionOracle


def test_no_draw_is_left_out() -> None:
    for draws in range(1, 200):
        parts = equal_parts(range(5, 5 + draws))
        assert list(chain.from_iterable(parts)) == list(range(5, 5 + draws)), f"{draws} draws became {parts}"
        assert max(map(len, parts)) - min(map(len, parts)) <= 1, f"{draws} draws became {parts}"


def test_halves_differ_by_one_draw_at_most() -> None:
    for draws in range(2, 200):
        parts = equal_parts(range(draws))
        halves = [sum(map(len, parts[start::2])) for start in (0, 1)]
        assert len(parts) % 2 == 0, f"{draws} draws became {len(parts)} parts"
        assert abs(halves[0] - halves[1]) <= 1, f"{draws} draws became halves of {halves}"


@pytest.mark.parametrize("draws", [7, 15, 33])
def test_scatter_of_unequal_parts_is_the_variance_of_their_mean(draws: int) -> None:
    lengths = np.array([len(part) for part in equal_parts(range(draws))])
    assert len(set(lengths)) == 2, f"{lengths}"
    # of unit variance, draws make parts of variance 1 / length: the mean of the parts is their mean by equal weights
    variance = (1 / lengths).sum() / len(lengths) ** 2
    parts = np.random.default_rng(draws).normal(size=(100_000, len(lengths))) / np.sqrt(lengths)
    told = (parts.var(axis=1, ddof=1) / len(lengths)).mean()
    assert abs(told / variance - 1) <= 0.01, f"{draws} draws: told {told:.4g}, is {variance:.4g}"
    assert variance <= 1.13 / draws, f"{draws} draws are worth {1 / variance:.1f}"


def test_compensated_sums_keep_the_digits_of_single_precision() -> None:
    """A hundred thousand tenths, whose sum without compensation is off by a thousandth."""
    tenth, total, rest, plain = np.float32(0.1), np.float32(0), np.float32(0), np.float32(0)
    for _ in range(100_000):
        total, rest = compensated(total, rest, tenth)
        plain += tenth
    exact = 100_000 * float(tenth)
    assert abs(plain / exact - 1) > 1e-4, f"the plain sum {plain} is already right"
    assert abs(total / exact - 1) <= 2e-7, f"{total} instead of {exact}"


ENTRIES = 2**20 + 2**10


def oracle_of(entries: int) -> FunctionOracle:
    """A quadratic with the curvature 2 in every entry, of which the diagonal is known from any probe."""
    zeros = {"weight": np.full(entries, 0.5)}
    groups = (ParameterGroup("weight", (entries,), "other"),)
    return FunctionOracle(zeros, lambda _: 0.0, dict, lambda _, v: {"weight": 2.0 * v["weight"]}, groups)


@pytest.mark.parametrize(("entries", "parts"), [(1000, 8), (ENTRIES, 4)])
def test_a_large_network_has_fewer_parts(entries: int, parts: int) -> None:
    oracle = oracle_of(entries)
    found = probed_groups(oracle, frozenset({"weight"}), 11, 0)["weight"]
    assert found.parts is not None, "probes come in parts"
    assert found.parts.shape == (parts, entries), f"{found.parts.shape[0]} parts of {entries} entries"
    assert np.array_equal(found.values, np.full(entries, 2.0)), f"the diagonal is {found.values}"


def test_memory_of_probes_does_not_grow_with_their_number() -> None:
    """Copies of the parameters: four parts and what compensates one of them, a scale, a direction and its product; and five while a group is added, which here is all."""
    oracle = oracle_of(ENTRIES)
    peaks = {probes: copies_while_probing(oracle, probes) for probes in (12, 24)}
    assert abs(peaks[24] - peaks[12]) <= 0.1, f"copies of the parameters by the number of probes: {peaks}"
    assert peaks[24] <= 12.1, f"{peaks[24]:.1f} copies of the parameters"


def copies_while_probing(oracle: FunctionOracle, probes: int) -> float:
    tracemalloc.start()
    try:
        with memory_limit(1):
            probed_groups(oracle, frozenset({"weight"}), probes, 0)
        return tracemalloc.get_traced_memory()[1] / (8 * ENTRIES)
    finally:
        tracemalloc.stop()
