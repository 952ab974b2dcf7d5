"""The user's model is as it was: after success, after an exception, and after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from invariant_sharpness.parameters.vector import Array, ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.testing.evaluations import Evaluation, evaluations
from invariant_sharpness.testing.points import nearby_point, scaled_signs
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_model_untouched(make_snapshot: Callable[[], Any], oracle: CurvatureOracle, *, seed: int = 0) -> Figures:
    """Check that no method of the oracle leaves a trace in the user's model, however it ends.

    Every method is run to its end; on parameters that are NaN; and with vectors that raise ``KeyboardInterrupt``
    when their first, their second, ... array is read, which happens before, during and after the evaluation of the model.

    Parameters
    ----------
    make_snapshot
        Returns copies of all that can be seen of the model (parameters, buffers, flags, gradients, random states), as
        something that ``==`` compares: bytes, or a dictionary of bytes and numbers. Not arrays, which compare entry by entry.
    oracle
        Of this model.

    Returns
    -------
    mapping
        The number of endings that were tried. Cost: a few calls of each method per group.

    Raises
    ------
    CheckFailedError
        If the snapshot changes; names the method and how it ended.
    """
    before = make_snapshot()
    endings = 0
    for method, evaluate in evaluations(oracle).items():
        for ending, run in _endings(oracle, evaluate, seed):
            run()
            endings += 1
            after = make_snapshot()
            if after != before:
                msg = (
                    f"{method} left the model changed after {ending}{_where(before, after)}: put parameters, buffers, flags, "
                    f"gradients and random states back in a finally clause"
                )
                raise CheckFailedError(msg)
    return {"endings": endings}


def _endings(oracle: CurvatureOracle, evaluate: Evaluation, seed: int) -> Iterator[tuple[str, Callable[[], object]]]:
    point, direction = nearby_point(oracle, seed), scaled_signs(oracle, seed, 0)
    missing = oracle.from_numpy({group.name: np.full(group.shape, np.nan) for group in oracle.groups})
    yield "success", partial(evaluate, point, direction)
    yield "parameters that are NaN", partial(_survived, evaluate, missing, direction)
    for count in range(len(oracle.groups) + 1):
        at = f"an interrupt at access {count + 1} to the"
        yield f"{at} parameters", partial(_survived, evaluate, _interrupting(point, count), direction)
        yield f"{at} vector", partial(_survived, evaluate, point, _interrupting(direction, count))


def _survived(evaluate: Evaluation, point: ParameterVector, direction: ParameterVector) -> None:
    """How it ends is the oracle's own affair."""
    with suppress(Exception, KeyboardInterrupt):
        evaluate(point, direction)


def _interrupting(vector: ParameterVector, after: int) -> ParameterVector:
    return ParameterVector(vector.xp, _Interrupting(vector.arrays, after))


class _Interrupting(Mapping[str, Array]):
    """Arrays by name, which can be read only so many times."""

    def __init__(self, arrays: Mapping[str, Array], accesses: int) -> None:
        self._arrays = arrays
        self._accesses = accesses

    def __getitem__(self, name: str) -> Array:
        if self._accesses == 0:
            raise KeyboardInterrupt
        self._accesses -= 1
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _where(before: Any, after: Any) -> str:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return ""
    changed = [str(key) for key in before if key not in after or before[key] != after[key]]
    return f" ({', '.join(changed[:3])})"
