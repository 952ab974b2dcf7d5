r"""Whether the derivatives that a framework computes for a model are those of its outputs.

A backward pass of the user's own (gradient reversal, a straight-through estimator), and parts that are cut out of the graph, give
others, and no product of derivatives shows it. So :math:`c_n \cdot J_n v` is compared with central differences of
:math:`c_n \cdot z_n` in a random direction v, at a random point near the model, where ties and kinks are not met exactly.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.adapters.data import take
from invariant_sharpness.adapters.engine import Arrays, Engine
from invariant_sharpness.errors import ModelError

Numbers = npt.NDArray[np.float64]

EXAMPLES = 4
"""So many examples are looked at."""

_NEARBY = 0.03
"""How far the point is from the model, relative to the size of each parameter group."""

_TOLERANCE = 0.005
_COARSE = 8
"""So many times longer is the step of the differences that the finer ones are compared with."""

_PATTERN = 4099
"""So many random numbers are repeated over a parameter group: drawing one for each entry takes longer than the rest."""


def check_derivatives(engine: Engine[Any], batch: Any, still: Collection[str] = ()) -> None:
    """Raise ModelError unless the derivatives of a few examples agree with differences, or these do not agree among themselves.

    Cost: four forward passes and one derivative of the outputs, over at most four examples.

    Parameters
    ----------
    engine
        The model, in as many digits as there are.
    batch
        Examples, as the engine computes with them.
    still
        Names of parameters that are not moved.
    """
    few = engine.batch(take(batch, 0, EXAMPLES))
    near, direction = (_random_vector(engine, index, still) for index in (0, 1))
    base = _moved(engine, engine.native(engine.parameters()), near, _NEARBY)
    outputs, slopes = _outputs_and_slopes(engine, base, direction, few)
    if slopes is None or not slopes.any():  # outputs that depend on nothing are named where they are measured
        return
    step = engine.eps ** (1 / 3) / _COARSE
    distant, up, down = (
        _outputs(engine, _moved(engine, base, direction, sign * step), few) for sign in (_COARSE, 1, -1)
    )
    weights = prng.cotangents(0, outputs.shape)
    with np.errstate(all="ignore"):  # at points nearby, outputs may be infinite
        slope, fine, coarse = (
            _row_sums(weights * change)
            for change in (slopes, (up - down) / (2 * step), (distant - outputs) / (_COARSE * step))
        )
        noise = engine.eps / step * _row_sums((weights * outputs) ** 2) ** 0.5
        wrong = _wrong(slope, fine, coarse, noise)
    if wrong is not None:
        raise _error(engine.name, fine[wrong], slope[wrong])


def _wrong(slope: Numbers, fine: Numbers, coarse: Numbers, noise: Numbers) -> int | None:
    """One of the examples whose slope is not their difference, if most have a wrong one; those without a slope do not count."""
    size, error = np.maximum(np.abs(fine), np.abs(slope)), np.abs(fine - slope)
    counted = size > 10 * noise
    wrong = counted & (error > _TOLERANCE * size) & (error > 4 * np.abs(fine - coarse))
    return int(np.argmax(wrong)) if 2 * wrong.sum() > counted.sum() else None


def _row_sums(rows: Numbers) -> Numbers:
    sums: Numbers = rows.reshape(len(rows), -1).sum(axis=1)
    return sums


def _error(framework: str, change: float, slope: float) -> ModelError:
    msg = (
        f"the derivatives that {framework} computes for this model are not those of its outputs: in a random direction, a "
        f"weighted sum of the outputs of an example changes by {change:.4g}, and its derivative is {slope:.4g}. Something in "
        f"the model has a backward pass of its own (gradient reversal, a straight-through estimator, fake quantization), or "
        f"is cut out of the graph (detach, no_grad, stop_gradient): replace it for measuring, or freeze the parameters "
        f"behind it, so that they are not measured"
    )
    return ModelError(msg)


def _outputs_and_slopes(engine: Engine[Any], at: Arrays, direction: Arrays, few: Any) -> tuple[Numbers, Numbers | None]:
    """The outputs of a few examples, and their derivatives; None where there are none, which the pass that needs them says."""
    with engine.at(at) as point:
        outputs = engine.read(point.evaluate(few)[0])
        try:
            return outputs, engine.read(point.pushforward(direction, few))
        except ModelError:
            return outputs, None


def _outputs(engine: Engine[Any], at: Arrays, few: Any) -> Numbers:
    with engine.at(at) as point:
        outputs: Numbers = engine.read(point.evaluate(few)[0])
        return outputs


def _moved(engine: Engine[Any], at: Arrays, direction: Arrays, step: float) -> Arrays:
    return engine.add(at, engine.divide(direction, 1 / step))


def _random_vector(engine: Engine[Any], index: int, still: Collection[str]) -> Arrays:
    """Random entries, of the size that the entries of their group have; of those of all, where a group is zero."""
    model = engine.to_numpy(engine.parameters())
    squares = {name: float(np.vdot(array, array)) for name, array in model.items()}
    overall = 0.1 * (sum(squares.values()) / sum(array.size for array in model.values())) ** 0.5
    vector = {}
    for stream, (name, array) in enumerate(model.items()):
        size = 0.0 if name in still else (squares[name] / array.size) ** 0.5 or overall
        pattern = size * prng.uniform_values(0, stream, index, min(array.size, _PATTERN))
        vector[name] = np.resize(pattern, array.shape)
    return engine.native(engine.from_numpy(vector))
