"""Where something failed: in which batch, and in the user's model or in the library."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from invariant_sharpness.data.trees import leaves
from invariant_sharpness.errors import InvariantSharpnessError, ModelError


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
