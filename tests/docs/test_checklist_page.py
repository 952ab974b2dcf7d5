"""The page that says what checks each quantity names tests, functions and files that exist."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache

import pytest

import invariant_sharpness as ish
from zoo import ROOT

TESTS = ROOT / "tests"
PAGE = (TESTS.parent / "docs" / "checklist.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| quantity"))]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", PAGE)))
MENTIONED = sorted(set(re.findall(r"\{(?:func|class|meth|mod)\}`~?([\w.]+)`", PAGE)))


@cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse(next(TESTS.rglob(file)).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_test_exists(file: str, name: str) -> None:
    assert list(TESTS.rglob(file)), f"the page names {file}, which does not exist"
    assert not name or name in defined(file), f"the page names {name}, which is not in {file}"


@pytest.mark.parametrize("path", MENTIONED)
def test_what_the_page_mentions_exists(path: str) -> None:
    assert found(path), f"the page mentions {path}, which does not exist"


def found(path: str) -> bool:
    """A module, or what stands in one."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            place = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            place = getattr(place, name, None)
        return place is not None
    return False


@pytest.mark.parametrize("row", ROWS)
def test_row_names_a_test_or_says_why_there_is_none(row: str) -> None:
    _, quantity, here, checked, _ = (cell.strip() for cell in row.split("|")) if row.count("|") == 4 else [""] * 5
    assert quantity, f"this row has not three cells: {row}"
    assert checked or len(here.split()) >= 5, f"{quantity}: neither a test nor a reason"


def test_every_metric_is_on_the_page() -> None:
    missing = [name for name in ish.METRICS if f"invariant_sharpness.{name}`" not in PAGE]
    assert not missing, f"metrics that the page does not mention: {missing}"
