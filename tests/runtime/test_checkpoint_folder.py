"""What a checkpoint leaves on disk, and whose states it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import CheckpointError
from invariant_sharpness.runtime.identity import Identity
from invariant_sharpness_numpy import FunctionOracle
from zoo.interrupted_loops import Interruptible, base, probe_by_probe, with_restarts


def test_state_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with ish.checkpoint(path, base()):
        ish.hessian_frobenius_norm(base(), probes=5)
    with (
        pytest.raises(CheckpointError, match=r"other values of layers\.0\.weight;"),
        ish.checkpoint(path, base(shift=1e-12)),
    ):
        pass


def test_state_of_other_data_is_refused(tmp_path: Path) -> None:
    path, oracle, brighter = tmp_path / "state", base(), base(brightness=1 + 1e-12)
    with ish.checkpoint(path, oracle):
        ish.hutchinson_trace(oracle, num_matvecs=9)
    with (
        pytest.raises(CheckpointError, match="other data or another loss, with a mean of"),
        ish.checkpoint(path, brighter),
    ):
        pass


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "values of many groups": (
        lambda: quadratics(np.zeros((5, 2))),
        r"other values of w0, w1, w2 and 2 more;",
    ),
    "a group less": (lambda: quadratics(np.ones((4, 2))), r"among the parameters, it has w4 besides;"),
    "a group more": (lambda: quadratics(np.ones((6, 2))), r"among the parameters, it lacks w5;"),
    "other names": (
        lambda: quadratics(np.ones((5, 2)), "v"),
        r"it lacks v0, v1, v2 and 2 more and it has w0, w1, w2 and 2 more besides;",
    ),
    "another order": (lambda: quadratics(np.ones((5, 2)), reverse=True), r"in another order, w0, w1, w2 and 2 more;"),
    "other shapes": (
        lambda: quadratics(np.ones((5, 3))),
        r"it has w0 of float64 \(2,\), .* and 2 more instead of w0 of float64 \(3,\), ",
    ),
    "another loss": (
        lambda: quadratics(np.ones((5, 2)), factor=2.0),
        r"other data or another loss, with a mean of 5\.0 instead of 10\.0;",
    ),
    "another gradient": (
        lambda: quadratics(np.ones((5, 2)), slope=2.0),
        r"other data or another loss, with the same mean of 5\.0, but another gradient;",
    ),
    "another rounding": (
        lambda: quadratics(np.ones((5, 2)), factor=1 + 1e-9),
        r"with a mean of 5\.0 instead of 5\.00000000\d+, which may be rounding: take batch_size, memory_limit, ",
    ),
}


def quadratics(
    values: Any, letter: str = "w", *, reverse: bool = False, factor: float = 1.0, slope: float = 1.0
) -> FunctionOracle:
    """Half of the sum of squares, in one group for each row; the slope is wrong if it is not one."""
    parameters = {f"{letter}{number}": row for number, row in enumerate(values)}
    return FunctionOracle(
        dict(reversed(parameters.items())) if reverse else parameters,
        lambda p: factor * sum(float(np.sum(array.astype(float) ** 2)) for array in p.values()) / 2,
        lambda p: {name: slope * factor * array for name, array in p.items()},
        lambda _, v: {name: factor * array for name, array in v.items()},
    )


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_is_named(name: str, tmp_path: Path) -> None:
    other, words = OTHERS[name]
    with ish.checkpoint(tmp_path / "state", quadratics(np.ones((5, 2)))):
        pass
    with pytest.raises(CheckpointError, match=words) as raised, ish.checkpoint(tmp_path / "state", other()):
        pass
    assert str(raised.value).endswith("give another path, or delete the folder to start anew"), raised.value


def test_other_precision_is_named() -> None:
    written, found = (Identity({"w": "digest"}, {"w": f"{dtype} (2,)"}, 5.0, "") for dtype in ("float32", "float64"))
    assert found.difference_from(written) == "it has w of float32 (2,) instead of w of float64 (2,)"


def test_half_of_the_folder_is_refused(tmp_path: Path) -> None:
    path, oracle = tmp_path / "state", base()
    with ish.checkpoint(path, oracle):
        ish.xtrace(oracle, num_matvecs=12)
    next(file for file in path.iterdir() if " " in file.name).unlink()
    with (
        pytest.raises(
            CheckpointError,
            match=r"could not be read \(No such file or directory\): a part of the checkpoint .* is missing",
        ),
        ish.checkpoint(path, oracle),
    ):
        ish.xtrace(oracle, num_matvecs=12)


def test_vectors_that_a_loop_no_longer_has_are_deleted(tmp_path: Path) -> None:
    oracle = Interruptible(base())
    with ish.checkpoint(tmp_path / "restarted", oracle):
        with_restarts(oracle)
    with ish.checkpoint(tmp_path / "finished", oracle):
        probe_by_probe(oracle)
    left = {name: sum(" " in file.name for file in (tmp_path / name).iterdir()) for name in ("restarted", "finished")}
    assert left["restarted"] <= 7, f"{left['restarted']} vectors on disk, of a loop that has up to 7 in memory"
    assert left["finished"] == 0, f"{left['finished']} vectors on disk, of probes that are finished"
