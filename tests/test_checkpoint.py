"""Runs that were interrupted and go on: the same bits, and never with the state of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness import checkpoints
from invariant_sharpness.errors import CheckpointError
from invariant_sharpness_numpy import NetworkOracle, ReluNetwork

METRICS = {
    "hessian_trace": lambda oracle: ish.hessian_trace(oracle, probes=9),
    "hessian_frobenius_norm": lambda oracle: ish.hessian_frobenius_norm(oracle, probes=9),
    "normalized_sharpness": lambda oracle: ish.normalized_sharpness(oracle, probes=24),
}


class Interruptible:
    """An oracle without exact diagonals, which somebody interrupts at a certain product."""

    def __init__(self, base: Any, at: int | None = None) -> None:
        self._base, self._left, self.products = base, at, 0

    def __getattr__(self, name: str) -> Any:
        if name in ("gauss_newton_diagonal", "hessian_vector_products", "sampled_gauss_newton_diagonal"):
            raise AttributeError(name)
        return getattr(self._base, name)

    def hessian_vector_product(self, *arguments: Any) -> Any:
        self.products += 1
        if self.products == self._left:
            raise KeyboardInterrupt
        return self._base.hessian_vector_product(*arguments)


def base(shift: float = 0.0, outputs: int = 3) -> NetworkOracle:
    random = np.random.default_rng(0)
    network = ReluNetwork((random.normal(size=(6, 4)) + shift, random.normal(size=(outputs, 6))))
    return NetworkOracle(network, random.normal(size=(9, 4)), random.integers(0, 3, 9))


@pytest.mark.parametrize("at", [1, 2, 5, 8])
@pytest.mark.parametrize("name", METRICS)
def test_resumed_run_gives_the_same_bits(name: str, at: int, tmp_path: Path) -> None:
    expected, path = METRICS[name](Interruptible(base())), tmp_path / "state.npz"
    broken = Interruptible(base(), at)
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        METRICS[name](broken)
    going_on = Interruptible(base())
    with ish.checkpoint(path, going_on):
        found = METRICS[name](going_on)
    assert found == expected, f"{found} instead of {expected}"


@pytest.mark.parametrize("name", METRICS)
def test_nothing_is_computed_twice(name: str, tmp_path: Path) -> None:
    whole, path = Interruptible(base()), tmp_path / "state.npz"
    METRICS[name](whole)
    broken, going_on = Interruptible(base(), 6), Interruptible(base())
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, broken):
        METRICS[name](broken)
    with ish.checkpoint(path, going_on):
        METRICS[name](going_on)
    assert going_on.products == whole.products - 5, f"{going_on.products} products of {whole.products} after 5 done"


def test_sampled_outputs_are_resumed_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, expected = tmp_path / "state.npz", ish.normalized_sharpness(base(outputs=300), probes=16)
    drawn = NetworkOracle.sampled_gauss_newton_diagonal
    parts: list[range] = []

    def counted(self: Any, p: Any, names: Any, draws: range, seed: int) -> Any:
        parts.append(draws)
        if len(parts) == 4:
            raise KeyboardInterrupt
        return drawn(self, p, names, draws, seed)

    monkeypatch.setattr(NetworkOracle, "sampled_gauss_newton_diagonal", counted)
    oracle = base(outputs=300)
    with pytest.raises(KeyboardInterrupt), ish.checkpoint(path, oracle):
        ish.normalized_sharpness(oracle, probes=16)
    with ish.checkpoint(path, oracle):
        found = ish.normalized_sharpness(oracle, probes=16)
    assert found == expected, f"{found} instead of {expected}"
    assert parts[4] == parts[3], f"went on with {parts[4]} instead of {parts[3]}"


def test_other_seed_starts_anew(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "state.npz", oracle):
        first = ish.hessian_frobenius_norm(oracle, probes=9, seed=0)
        second = ish.hessian_frobenius_norm(oracle, probes=9, seed=1)
    assert second == ish.hessian_frobenius_norm(base(), probes=9, seed=1)
    assert first != second


def test_more_probes_go_on_from_fewer(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "state.npz", oracle):
        ish.hessian_frobenius_norm(oracle, probes=9)
        more = ish.hessian_frobenius_norm(oracle, probes=14)
    assert oracle.products == 14, f"{oracle.products} products"
    assert more == ish.hessian_frobenius_norm(base(), probes=14)


def test_other_coordinates_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    scaled = ish.Scaled(oracle, oracle.parameters.map(lambda a: np.abs(a) + 1))
    with ish.checkpoint(tmp_path / "state.npz", oracle):
        ish.hessian_frobenius_norm(oracle, probes=9)
        found = ish.hessian_frobenius_norm(scaled, probes=9)
    assert found == ish.hessian_frobenius_norm(scaled, probes=9)


def test_hessian_and_gauss_newton_matrix_do_not_share_a_state(tmp_path: Path) -> None:
    oracle = base()
    with ish.checkpoint(tmp_path / "state.npz", oracle):
        hessian = ish.hessian_frobenius_norm(oracle, probes=9)
        found = ish.hessian_frobenius_norm(ish.GaussNewton(oracle), probes=9)
    assert found == ish.hessian_frobenius_norm(ish.GaussNewton(oracle), probes=9), f"{found}, by the Hessian {hessian}"
    assert found != hessian


def test_state_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with ish.checkpoint(path, base()):
        ish.hessian_frobenius_norm(base(), probes=9)
    other = base(shift=1e-12)
    with pytest.raises(CheckpointError, match="for other parameters or other data"), ish.checkpoint(path, other):
        pass


def test_file_of_somebody_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    with pytest.raises(CheckpointError, match="is not a checkpoint of this library"), ish.checkpoint(path, base()):
        pass
    assert path.read_text() == "precious"


def test_crash_while_writing_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, oracle = tmp_path / "state.npz", base()
    with ish.checkpoint(path, oracle):
        ish.hessian_frobenius_norm(oracle, probes=9)
    before = path.read_bytes()

    def crash(stream: Any, **_: Any) -> None:
        stream.write(b"half of it")
        raise OSError("the disk is full")

    monkeypatch.setattr(checkpoints.np, "savez", crash)
    with pytest.raises(OSError, match="the disk is full"), ish.checkpoint(path, oracle):
        ish.hessian_frobenius_norm(oracle, probes=12)
    assert path.read_bytes() == before
