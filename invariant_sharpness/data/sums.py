"""What can be wrong with the sums over the data: no weight to divide by, or a result that is no number."""

from __future__ import annotations

from invariant_sharpness.errors import DataError, NonFiniteError


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


def infinite_derivative(name: str) -> NonFiniteError:
    """The error that says in which parameter a derivative is NaN or infinite."""
    return NonFiniteError(f"a derivative in parameter {name!r} is NaN or infinite, although the loss is finite")
