"""Modules can be imported from the paths that they had, for one release."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import warnings
from importlib import import_module
import invariant_sharpness as ish
from invariant_sharpness.old_paths import NEW_BY_OLD

for old in NEW_BY_OLD:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import_module(f"invariant_sharpness.{old}")
    assert any(old in str(warning.message) for warning in caught), f"{old} does not warn"

warnings.simplefilter("ignore")
from invariant_sharpness.data import as_batches
from invariant_sharpness.estimate import Estimate
from invariant_sharpness.estimators.diagonals import HessianDiagonal
from invariant_sharpness.estimators.diagonals.exactness import curvature_defects
from invariant_sharpness.report import Report
from invariant_sharpness.vector import ParameterVector

assert (Estimate, Report, ParameterVector) == (ish.Estimate, ish.Report, ish.ParameterVector)
assert HessianDiagonal is ish.HessianDiagonal
try:
    from invariant_sharpness.vector import nothing
except ImportError:
    print("done")
"""


def test_old_paths_lead_to_the_new_modules() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.stdout == "done\n", result.stderr
