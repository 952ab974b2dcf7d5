"""Networks, problems and dense references that tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of the repository."""

EXPERIMENTS = ROOT / "docs" / "experiments"
"""The scripts whose networks and tables tests hold to account."""
