"""Parts of draws, whose differences tell the error: no draw is left out, and parts that are longer by one leave the error right."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from invariant_sharpness.estimators.probed_diagonal import equal_parts


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
