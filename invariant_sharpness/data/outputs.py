"""What a model has to return: an array with one finite row per example."""

from __future__ import annotations

from typing import Any, TypeVar

from invariant_sharpness.data.inputs import first_non_finite
from invariant_sharpness.errors import LossError, ModelError, NonFiniteError

T = TypeVar("T")


def output_array(returned: Any, array: type[T], advice: str) -> T:
    """The ``array`` that a model returned, be it in an object with ``logits``.

    Raises
    ------
    LossError
        If there is none; ``advice`` says what to do.
    """
    logits = getattr(returned, "logits", returned)
    if isinstance(logits, array):
        return logits
    msg = f"the model returned a {type(returned).__name__} instead of an array: {advice}"
    raise LossError(msg)


def check_outputs(outputs: Any, examples: int, index: int) -> None:
    """Raise unless the outputs have one row for each of ``examples`` examples, and are finite.

    Raises
    ------
    ModelError, NonFiniteError
        Say in which batch, and what to do.
    """
    if outputs.shape[:1] != (examples,) or 0 in outputs.shape:
        msg = (
            f"the model returned outputs of shape {tuple(outputs.shape)} for the {examples} examples of batch {index}: "
            f"the first axis has to count examples, and each of them needs an output"
        )
        raise ModelError(msg)
    if first_non_finite(outputs) is not None:
        msg = (
            f"the outputs of batch {index} are NaN or infinite, although inputs and parameters are finite: "
            f"look for an overflow (does float64 help?) or a division by zero"
        )
        raise NonFiniteError(msg)
