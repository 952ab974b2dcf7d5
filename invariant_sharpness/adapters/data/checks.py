"""Where something failed: in which batch, and in the user's model or in the library.

What a batch has to be before a model sees it: not empty, and finite.

What a model has to return: an array with one finite row per example.

What can be wrong with the sums over the data: no weight to divide by, or a result that is no number.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from array_api_compat import array_namespace, is_array_api_obj

from invariant_sharpness.adapters.data.examples import Leaf, batch_size, leaves
from invariant_sharpness.errors import DataError, InvariantSharpnessError, LossError, ModelError, NonFiniteError


@contextmanager
def in_batch(index: int) -> Generator[None]:
    """Say in which batch an error of the library happened."""
    try:
        yield
    except InvariantSharpnessError as error:
        msg = f"batch {index}: {error}"
        raise type(error)(msg) from error


@contextmanager
def calling_model(batch: Any, index: int, advice: str) -> Generator[None]:
    """Where model and data do not fit together, the model itself raises: say on what, and what to do."""
    with in_batch(index):
        try:
            yield
        except InvariantSharpnessError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves(batch) if hasattr(leaf, "shape"))
            msg = f"the model raised {type(error).__name__} on arrays of shapes {shapes}: {error}. {advice}"
            raise ModelError(msg) from error


def check_inputs(batch: Any, index: int) -> None:
    """Raise if there is no example, or an entry is NaN or infinite.

    Raises
    ------
    DataError, NonFiniteError
        Say in which batch, array and example.
    """
    with in_batch(index):
        examples = batch_size(batch)
    if examples == 0:
        msg = f"batch {index} is empty: leave it out (look at the sampler that makes the batches)"
        raise DataError(msg)
    for position, leaf in enumerate(leaves(batch)):
        example = first_non_finite(leaf)
        if example is not None:
            msg = (
                f"array {position} of batch {index} (shape {tuple(leaf.shape)}) has NaN or infinite entries, "
                f"first in example {example}: clean the data"
            )
            raise NonFiniteError(msg)


def first_non_finite(leaf: Leaf) -> int | None:
    """The first row with an entry that is NaN or infinite; None if there is none, or the leaf holds no real numbers."""
    xp = _namespace(leaf)
    if xp is None or not xp.isdtype(leaf.dtype, "real floating"):
        return None
    finite = xp.isfinite(leaf)
    if bool(xp.all(finite)):
        return None
    rows = xp.reshape(finite, (leaf.shape[0] if leaf.ndim else 1, -1))
    return int(xp.argmin(xp.astype(xp.all(rows, axis=1), xp.int8)))


def _namespace(leaf: Leaf) -> Any:
    return array_namespace(leaf) if is_array_api_obj(leaf) else None


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


def real_outputs(outputs: T) -> T:
    """Return the outputs, if they are real floating-point numbers, which alone have derivatives.

    Raises
    ------
    ModelError
        Says of what type they are, and what to do.
    """
    xp = _namespace(outputs)
    if xp is None or xp.isdtype(outputs.dtype, "real floating"):  # type: ignore[attr-defined]
        return outputs
    msg = (
        f"the model returned outputs of dtype {outputs.dtype}, but curvature needs real floating-point numbers: return what "  # type: ignore[attr-defined]
        f"is before a comparison or argmax, and of complex numbers the magnitude, or real and imaginary parts as two outputs"
    )
    raise ModelError(msg)


def check_outputs(outputs: Any, examples: int, index: int) -> None:
    """Raise unless the outputs have one row for each of ``examples`` examples, and are finite.

    Raises
    ------
    ModelError, NonFiniteError
        Say in which batch, and what to do.
    """
    real_outputs(outputs)
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


def positive_weight(weight: float) -> float:
    """The sum of all weights, if there is one to divide by.

    Raises
    ------
    DataError
        If it is zero.
    """
    if weight > 0:
        return weight
    msg = "the weights of all examples add up to zero: every label is ignored, or its class has weight zero"
    raise DataError(msg)


def infinite_loss(example: int, batch: int, loss: float) -> NonFiniteError:
    """The error that says which example of which batch has a loss that is NaN or infinite."""
    return NonFiniteError(f"the loss of example {example} in batch {batch} is {loss}: there is no curvature")


def infinite_output_hessian(loss: str) -> NonFiniteError:
    """The error that says that the second derivative of a loss in the outputs is NaN or infinite."""
    msg = (
        f"the second derivative of loss {loss!r} in the outputs is NaN or infinite, although the loss is finite: look for a root or a "
        f"norm at zero, or for an operation without a second derivative"
    )
    return NonFiniteError(msg)


def infinite_derivative(name: str) -> NonFiniteError:
    """The error that says in which parameter a derivative is NaN or infinite."""
    return NonFiniteError(f"a derivative in parameter {name!r} is NaN or infinite, although the loss is finite")
