"""What the page on testing metrics shows runs, and shows what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from invariant_sharpness.testing.metric_suite import metric_checks
from zoo import ROOT
from zoo.own_metrics import adaptive

PAGE = (ROOT / "docs" / "testing_metrics.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^```\{code-cell\} ipython3\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TEST_FILE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def run(program: str, folder: Path, *command: str) -> str:
    (folder / "test_page.py").write_text(program)
    result = subprocess.run(
        [sys.executable, *command, "test_page.py"], capture_output=True, text=True, cwd=folder, check=False
    )
    assert result.returncode == 0, f"the code of the page fails:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
    return result.stdout


@pytest.mark.slow
def test_cells_run_and_show_what_the_page_says(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    shown = run("\n".join(CELLS), tmp_path)
    for words in (
        "check_invariance[row_column] passed",
        "check_invariance[layer]: with_epsilon is declared invariant under 'layer', but moved from",
        "check_nonnegative failed as expected",
        "10 checks, 10 passed",
        "check_invariance[row_column] failed",
        "layer 0 unit 0 scaled by 2**1",
    ):
        assert words in shown, f"{words!r} is not in\n{shown}"


def test_test_file_of_the_page_passes(tmp_path: Path) -> None:
    (snippet,) = TEST_FILE
    shown = run(
        f"{CELLS[0].split('for result')[0]}\n{snippet}",
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not same_value",
    )
    assert "10 passed" in shown, shown


def test_page_lists_every_check() -> None:
    names = {re.sub(r"\[.*\]", "[...]", name) for name in metric_checks(adaptive, None, {"layer"}, 0)}
    missing = [name for name in names if f"`{name}`" not in PAGE]
    assert not missing, f"checks that the page does not explain: {missing}"
