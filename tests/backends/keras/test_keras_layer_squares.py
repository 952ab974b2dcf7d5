"""The exact diagonal layer by layer: what it is, and which layers have a rule for it."""

from __future__ import annotations

import pytest

from zoo.keras_results import TOLERANCE, every_engine_deep, found, tensorflow_alone

WITH_RULES = ("images", "lines", "volumes", "tokens", "partly frozen")
WITHOUT_A_SITE = ("images",)
"""In JAX's programs, gamma of batch norm is used twice."""

OTHERS = ("without rules", "shared", "axes in other places", "tied")


@every_engine_deep
@pytest.mark.parametrize("network", WITH_RULES + OTHERS)
def test_diagonal_is_that_of_the_dense_jacobian(engine: str, network: str) -> None:
    for name, error in found(engine, "diagonals_of_layers")[network].items():
        assert error <= TOLERANCE[engine], f"relative error {error:.1e} of the diagonal in {name}"


@pytest.mark.slow
@tensorflow_alone
def test_diagonal_in_single_precision_is_that_of_the_dense_jacobian() -> None:
    """The other engines compute in nothing else."""
    for name, error in found("tensorflow", "diagonal_in_single_precision").items():
        assert error <= 1e-4, f"relative error {error:.1e} of the diagonal in {name}"


@every_engine_deep
@pytest.mark.parametrize("network", WITH_RULES)
def test_layers_with_rules_take_all_examples_at_once(engine: str, network: str) -> None:
    passes = found(engine, "passes_of_single_examples")[network]
    expected = engine == "jax" and network in WITHOUT_A_SITE
    assert bool(passes) == expected, f"{passes} terms were taken one example at a time"


@every_engine_deep
@pytest.mark.parametrize("network", OTHERS)
def test_other_layers_take_one_example_at_a_time(engine: str, network: str) -> None:
    assert found(engine, "passes_of_single_examples")[network] > 0, f"all layers of {network!r} have a rule"


@every_engine_deep
def test_memory_limit_changes_the_diagonal_by_rounding(engine: str) -> None:
    difference = found(engine, "diagonal_in_little_memory")
    assert difference <= (1e-13 if engine == "tensorflow" else 1e-5), f"relative difference {difference:.1e}"


@every_engine_deep
def test_layers_are_what_they_were_after_an_interruption(engine: str) -> None:
    if engine == "jax":
        pytest.skip("on JAX no layer is watched: the program of the model is read")
    assert found(engine, "layers_after_an_interruption") == {"interrupted": True, "same": True}
