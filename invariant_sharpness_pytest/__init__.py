"""Options of pytest for ``pytest --pyargs invariant_sharpness.testing.suite``.

pytest loads this in every project where the library is installed, so it registers options and imports nothing. It stands
beside the library because whatever is inside of it imports NumPy first, and is no ``conftest.py`` because pytest reads those of
installed packages after the options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register what the suite is told on the command line."""
    group = parser.getgroup("invariant_sharpness", "sharpness metrics, for --pyargs invariant_sharpness.testing.suite")
    group.addoption(
        "--invariant-metric",
        action="append",
        default=[],
        metavar="TARGET",
        help="package.module:metric or file.py:metric, a callable oracle -> number; may be given again. It is IMPORTED AND RUN.",
    )
    group.addoption(
        "--invariant-model",
        action="append",
        default=[],
        metavar="TARGET",
        help="package.module:oracle or file.py:oracle to test on; may be given again. Default: two small ReLU networks.",
    )
    group.addoption(
        "--invariant-claims",
        default=None,
        metavar="WORDS",
        help="what the metrics are said to survive, with commas, such as layer,row_column",
    )
    group.addoption(
        "--invariant-expected-failure",
        action="append",
        default=[],
        metavar="CHECK=REASON",
        help="a check that is expected to fail, and why; may be given again",
    )
