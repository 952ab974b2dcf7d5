"""Seeds over which a test is repeated: the first one in ``make test``, all of them in ``make deep``."""

from __future__ import annotations

import pytest


def seeds(count: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, count))])
