"""The mean over the data is checked by its parts."""

from __future__ import annotations

import pytest

from invariant_sharpness.testing import CheckFailedError, check_additivity
from invariant_sharpness_numpy import NetworkOracle
from zoo.numpy_problem import random_data, random_network


def parts_of(loss: str, cut: int) -> tuple[list[NetworkOracle], NetworkOracle]:
    network, (x, y) = random_network(biases=True), random_data(loss)
    parts = [NetworkOracle(network, x[part], y[part], loss) for part in (slice(None, cut), slice(cut, None))]
    return parts, NetworkOracle(network, x, y, loss, batch_size=3)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_mean_over_the_data_is_additive(loss: str) -> None:
    parts, whole = parts_of(loss, 4)
    figures = check_additivity(parts, [4, 7], whole)
    assert max(figures.values()) < 1e-12, f"{figures}"


def test_mean_of_means_is_found() -> None:
    parts, whole = parts_of("cross_entropy", 4)
    with pytest.raises(CheckFailedError, match="loss of the whole differs by"):
        check_additivity(parts, [1, 1], whole)


def test_parts_without_weights_are_refused() -> None:
    parts, whole = parts_of("cross_entropy", 4)
    with pytest.raises(ValueError, match="2 oracles and 1 weights"):
        check_additivity(parts, [1], whole)
