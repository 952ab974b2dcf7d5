"""What every sum over examples assumes, tested: an example has outputs and a loss of its own, whatever examples are beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.adapters.data import PASS_SEED, batch_size, choose
from invariant_sharpness.adapters.engine import Array, Engine
from invariant_sharpness.errors import LossError, ModelError
from invariant_sharpness.losses import OutputLoss
from invariant_sharpness.losses.callables import BY_BATCHES

Evaluate = Callable[[Any], tuple[Array, Array]]
"""Runs the model on some examples; what it raises is named."""

LossesAt = Callable[[npt.NDArray[np.intp]], npt.NDArray[Any]]
"""The losses of the rows with these numbers, computed from these rows alone: floating-point numbers on the host."""

_UNITS = 4096
"""So many units of rounding may two computations of one loss differ by: sums over many outputs are added in other orders."""


def check_determinism(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Raise ModelError if a second pass over the same batch, from another random state, gives other outputs."""
    with engine.random_state(PASS_SEED + 1, ()):
        again = engine.read(evaluate(batch)[0])
    if not _same(engine, again, engine.read(outputs)):
        msg = (
            "two passes over the same batch gave different outputs: the model is random (functional dropout?), or "
            "changes as it computes, so it has no one loss; call model.eval() and make the forward pass deterministic"
        )
        raise ModelError(msg)


def check_own_outputs(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Raise ModelError if the model is random, or one half of the batch has other outputs than it has in the batch.

    Cost: as much as one forward pass over the batch, half by half; each half is drawn, in the order of the batch.
    """
    halves = [rows for rows in _halves(batch_size(batch)) if len(rows)]
    with engine.random_state(PASS_SEED + 1, ()):
        found = [_of_part(evaluate, batch, rows) for rows in halves]
    *parts, whole = engine.read([*found, outputs])
    if not all(_same(engine, part, whole[rows]) for part, rows in zip(parts, halves, strict=True)):
        check_determinism(engine, evaluate, batch, outputs)
        raise _mixed()


def check_half(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Do the same with one of the halves, where a batch of another shape has to be compiled."""
    rows = _halves(batch_size(batch))[0]
    part, whole = engine.read((_of_part(evaluate, batch, rows), outputs))
    if not _same(engine, part, whole[rows]):
        raise _mixed()


def check_later(engine: Engine[Any], evaluate: Evaluate, batch: Any, outputs: Array) -> None:
    """Do the same on a batch after the first, whose examples may be of another kind: with half of it, or in the shape that is compiled.

    Cost: half a forward pass over the batch, or one where shapes are fixed: then the other half is this one once more.
    """
    examples = batch_size(batch)
    half = _halves(examples)[0]
    rows = np.resize(half, examples) if engine.fixed_shapes else half
    part, whole = engine.read((_of_part(evaluate, batch, rows), outputs))
    if not _same(engine, part, whole[rows]):
        raise _mixed()


def _halves(examples: int) -> list[npt.NDArray[np.intp]]:
    """Two halves drawn at random: rows that stand side by side, or opposite, in one of them do not in the batch."""
    drawn = prng.permutation(PASS_SEED, examples)
    return [np.sort(part) for part in np.array_split(drawn, 2)]


def _of_part(evaluate: Evaluate, batch: Any, rows: npt.NDArray[np.intp]) -> Array:
    try:
        return evaluate(choose(batch, rows))[0]
    except ModelError as error:
        msg = f"the model takes the whole batch, but not some of its examples, so none has outputs of its own: {error}; or {BY_BATCHES}"
        raise ModelError(msg) from error


def _mixed() -> ModelError:
    msg = (
        "the same examples have other outputs in a smaller batch: the model is random (dropout?), or mixes the examples "
        "(it normalizes with the statistics of the batch?), so an example has no loss of its own: call the model in "
        f"inference mode, or {BY_BATCHES}"
    )
    return ModelError(msg)


def _same(engine: Engine[Any], found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> bool:
    """Whether outputs agree to what rounding can explain, at the positions that both have: a part may be padded less."""
    if found.ndim != expected.ndim or any(a > b for a, b in zip(found.shape, expected.shape, strict=True)):
        return False
    expected = expected[tuple(slice(0, length) for length in found.shape)]
    precision = max(1e-5, min(1e-3, 3 * engine.eps**0.5), 10 * engine.eps)
    with np.errstate(invalid="ignore"):
        return bool(np.all(np.abs(found - expected) <= precision * (np.abs(expected) + np.abs(expected).max())))


def check_own_losses(
    name: str, losses_at: LossesAt, examples: int, scale: float = 1.0, advice: str = BY_BATCHES
) -> None:
    """Raise LossError if the loss of an example is another one among other examples.

    Cost: two evaluations of the loss, on outputs that are there.

    Parameters
    ----------
    name
        Of the loss, for messages.
    losses_at
        Computes losses of some rows.
    examples
        The number of rows.
    scale
        The largest magnitude of an output, whose square bounds what cancels in a loss.
    advice
        What to do where a loss needs the whole batch.
    """
    if examples < 2:
        return
    whole = losses_at(np.arange(examples))
    rounding = _UNITS * float(np.finfo(whole.dtype).eps)
    for rows in np.array_split(prng.permutation(PASS_SEED, examples), 2):
        part, expected = _losses_of_part(name, losses_at, rows, advice), whole[rows]
        with np.errstate(invalid="ignore"):
            apart = np.abs(part - expected) > rounding * (1 + np.abs(expected) + scale * scale)
        wrong = np.flatnonzero(apart | (np.isfinite(part) != np.isfinite(expected)))
        if len(wrong):
            row = wrong[0]
            msg = (
                f"loss {name!r} gives example {rows[row]} the loss {expected[row]:.6g} in its batch, but {part[row]:.6g} "
                f"among fewer examples, so no example has a loss of its own: make it a function of one example's outputs "
                f"and targets, or {advice}"
            )
            raise LossError(msg)


def _losses_of_part(name: str, losses_at: LossesAt, rows: npt.NDArray[np.intp], advice: str) -> npt.NDArray[Any]:
    """Whatever a function raises that needs the whole batch, is named."""
    try:
        part = losses_at(rows)
        if part.shape == rows.shape:
            return part
        found = f"returned losses of shape {part.shape}"
    except (RuntimeError, TypeError, ValueError, LookupError) as error:
        found = f"raised {type(error).__name__} ({error})"
    msg = (
        f"loss {name!r} {found} on {len(rows)} examples of a batch, so no example has a loss of its own: put what belongs to "
        f"single examples beside the targets, as in (x, (y, weights)), or {advice}"
    )
    raise LossError(msg)


def check_own_rows(loss: OutputLoss, xp: Any, rows: Array, targets: Array, advice: str = BY_BATCHES) -> None:
    """Do the same for a loss of the user's own class; those of the library are rows' own by construction."""
    if type(loss).__module__.startswith("invariant_sharpness."):
        return
    scale = float(xp.max(xp.abs(rows)))
    for of in (loss.values, loss.weights):

        def losses_at(at: npt.NDArray[np.intp], of: Callable[..., Array] = of) -> npt.NDArray[Any]:
            return np.asarray(of(xp, rows[at], targets[at]), dtype=np.float64)

        check_own_losses(loss.name, losses_at, len(rows), scale, advice)
