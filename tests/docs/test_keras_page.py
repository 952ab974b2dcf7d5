"""The code on the page about Keras prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest

from zoo import ROOT

PAGE = ROOT / "docs" / "keras.md"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow") is None, reason="tensorflow is not installed")
@pytest.mark.skipif(
    "keras" not in entry_points(group="invariant_sharpness.backends").names, reason="the backend is not registered"
)
def test_code_on_the_page_prints_what_the_page_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (expected,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | quiet
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert shown(run.stdout) == shown(expected)


def shown(text: str) -> list[list[str]]:
    """The title and the rows of the table, without the errors, of which some are rounding."""
    rows = [[cell.strip() for cell in line.split("│")] for line in text.strip().splitlines()]
    return [[*row[:3], *row[4:]] for row in rows if (len(row) == 1 and "loss" in row[0]) or len(row) > 1]
