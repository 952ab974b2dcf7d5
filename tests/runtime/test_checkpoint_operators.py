"""Loops on operators that are not the oracle of the checkpoint: they are resumed too, and never with the state of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import invariant_sharpness as ish
from zoo.interrupted_loops import Interruptible, base


class Damped:
    """A wrapper as a user may write it: the Hessian plus a multiple of the identity, and everything else as it was."""

    def __init__(self, oracle: Any, damping: float) -> None:
        self.oracle = oracle
        self.damping = damping

    def __getattr__(self, name: str) -> Any:
        return getattr(self.oracle, name)

    def hessian_vector_product(self, parameters: Any, vector: Any) -> Any:
        return self.oracle.hessian_vector_product(parameters, vector) + self.damping * vector

    def hessian_vector_products(self, parameters: Any, vectors: Any) -> Any:
        return [self.hessian_vector_product(parameters, vector) for vector in vectors]


@dataclass(frozen=True)
class Shrunk(Damped):
    """The same as coordinates, which have a ``base``."""

    oracle: Any
    damping: float

    @property
    def base(self) -> Any:
        return self.oracle


def lipschitz(oracle: Any) -> ish.Estimate:
    return ish.hessian_lipschitz_of_operator(oracle, draws=2)


def eigenvalues(oracle: Any) -> dict[str, Any]:
    return ish.eigenpairs(Damped(oracle, 0.5), largest=2, smallest=1).to_dict()


def trace(oracle: Any) -> ish.Estimate:
    return ish.xtrace(Damped(oracle, 0.5), num_matvecs=12)


OPERATORS: dict[str, Callable[[Any], Any]] = {
    "the change of a Hessian": lipschitz,
    "eigenvalues of a wrapper": eigenvalues,
    "trace of a wrapper": trace,
}


@pytest.mark.parametrize("at", [2, 9, 13])
@pytest.mark.parametrize("name", OPERATORS)
def test_resumed_run_gives_the_same_bits(name: str, at: int, tmp_path: Path) -> None:
    expected, path = OPERATORS[name](Interruptible(base())), tmp_path / "state"
    broken, going_on = Interruptible(base(), at), Interruptible(base())
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        OPERATORS[name](broken)
    with ish.checkpoint(path, going_on):
        found = OPERATORS[name](going_on)
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("name", OPERATORS)
def test_products_of_an_interrupted_run_are_not_made_again(name: str, tmp_path: Path) -> None:
    first, second = Interruptible(base()), Interruptible(base())
    for oracle in (first, second):
        with ish.checkpoint(tmp_path / "state", oracle):
            OPERATORS[name](oracle)
    assert second.products < first.products / 2, f"{second.products} products again, of {first.products}"


@pytest.mark.parametrize("wrapper", [Damped, Shrunk])
def test_wrappers_of_one_type_do_not_share_a_state(wrapper: Any, tmp_path: Path) -> None:
    """Their parameters, losses and gradients are the same."""
    oracle = base()
    with ish.checkpoint(tmp_path / "state", oracle):
        first = ish.hutchinson_trace(wrapper(oracle, 0.1), num_matvecs=9)
        second = ish.hutchinson_trace(wrapper(oracle, 0.2), num_matvecs=9)
    assert second == ish.hutchinson_trace(wrapper(oracle, 0.2), num_matvecs=9), f"{second}, and {first} before"


def test_checkpoints_of_wrappers_of_one_type_do_not_share_a_state(tmp_path: Path) -> None:
    for damping in (0.1, 0.2):
        oracle = Damped(base(), damping)
        with ish.checkpoint(tmp_path / "state", oracle):
            found = ish.hutchinson_trace(oracle, num_matvecs=9)
    expected = ish.hutchinson_trace(Damped(base(), 0.2), num_matvecs=9)
    assert found == expected, f"{found} instead of {expected}"


def test_second_oracle_with_other_data_does_not_share_a_state(tmp_path: Path) -> None:
    oracle, other = base(), base(brightness=2.0)
    with ish.checkpoint(tmp_path / "state", oracle):
        first = ish.hutchinson_trace(oracle, num_matvecs=9)
        second = ish.hutchinson_trace(other, num_matvecs=9)
        losses = [ish.expected_sharpness(each, probes=5) for each in (oracle, other)]
    assert second == ish.hutchinson_trace(other, num_matvecs=9), f"{second}, and {first} before"
    assert losses[1] == ish.expected_sharpness(other, probes=5), f"{losses[1]}, and {losses[0]} before"


def test_restrictions_are_stored_and_do_not_share_a_state(tmp_path: Path) -> None:
    """They have the same point, and other values of the groups that are held fixed."""
    oracle = base()
    first, second = (group.name for group in oracle.groups)
    halves = [ish.Moved(oracle, oracle.parameters.only([first]) + s * oracle.parameters.only([second])) for s in (1, 2)]
    restricted = [ish.Restricted(half, first) for half in halves]
    expected = [ish.eigenpairs(each).to_dict() for each in restricted]
    for _ in range(2):
        with ish.checkpoint(tmp_path / "state", oracle):
            found = [ish.eigenpairs(each).to_dict() for each in restricted]
        assert found == expected, f"{found} instead of {expected}"
    assert found[0] != found[1], f"{found}"
