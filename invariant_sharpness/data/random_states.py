"""The random state of Python and NumPy, from which a data loader may draw."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np

PASS_SEED = 0x5EED
"""The seed of every pass over the data: a loader that shuffles repeats its order, so that equal arguments give equal results."""


@contextmanager
def random_state(seed: int = PASS_SEED) -> Generator[None]:
    """Start from a fixed random state, and restore the user's."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state is kept
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
