"""The documentation builds without a warning, is readable offline, and is complete; the README's code runs."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from invariant_sharpness import METRICS
from invariant_sharpness.symmetries import SYMMETRIES
from zoo import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"

LOADED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//[^\"']*", re.IGNORECASE
)
LOADED_BY_STYLE = re.compile(r"(?:@import\s+|url\()\s*[\"']?(?:https?:)?//[^\"')]*", re.IGNORECASE)
NETWORKS = ("https://cdn", "unpkg", "jsdelivr", "cdnjs")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, with their code unexecuted: ``make docs`` executes it."""
    for package in ("sphinx", "furo", "myst_nb", "latex2mathml", "sphinx_gallery", "matplotlib", "sklearn", "torch"):
        pytest.importorskip(package)
    target = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html"]
    unexecuted = ["-D", "nb_execution_mode=off", "-D", "plot_gallery=0"]
    doctrees = ["-d", str(target / ".doctrees")]
    result = subprocess.run(
        [*command, *unexecuted, *doctrees, str(DOCS), str(target)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"the documentation does not build:\n{result.stderr[-6000:]}"
    return target


@pytest.mark.slow
def test_pages_load_nothing_from_the_network(built: Path) -> None:
    found = [f"{page.name}: {text}" for page in built.rglob("*.html") for text in LOADED.findall(page.read_text())]
    found += [
        f"{sheet.name}: {text}" for sheet in built.rglob("*.css") for text in LOADED_BY_STYLE.findall(sheet.read_text())
    ]
    found += [f"{p.name}: {n}" for p in built.rglob("*.html") for n in NETWORKS if n in p.read_text()]
    assert not found, f"pages that need the network: {found}"


@pytest.mark.slow
def test_equations_are_mathml(built: Path) -> None:
    page = (built / "metrics.html").read_text()
    equations = page.count("<math ")
    assert equations > len(METRICS), f"{equations} equations for {len(METRICS)} metrics"
    assert "MathJax" not in page, "the equations need a script"


@pytest.mark.slow
def test_every_metric_is_in_the_table_of_the_first_page(built: Path) -> None:
    page = (built / "index.html").read_text()
    missing = [name for name in METRICS if f"#invariant_sharpness.{name}" not in page]
    assert not missing, f"metrics that the first page does not link to: {missing}"


def test_every_metric_has_a_section() -> None:
    page = (DOCS / "metrics.md").read_text()
    missing = [name for name in METRICS if f"### {name}\n\n```{{metric}} {name}\n```\n" not in page]
    assert not missing, f"metrics without a section in docs/metrics.md: {missing}"


def test_every_section_is_of_a_metric() -> None:
    written = re.findall(r"^```\{metric\} (.*)$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    unknown = [name for name in written if name not in METRICS]
    assert not unknown, f"sections of metrics that do not exist: {unknown}"


def test_tests_named_in_the_errata_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "errata.md").read_text()))
    defined = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert named <= defined, f"the errata name tests that do not exist: {sorted(named - defined)}"


@pytest.mark.slow
def test_tests_named_by_the_declarations_exist() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sphinx")
    name_of_test = runpy.run_path(str(DOCS / "_extensions" / "metric_pages.py"))["name_of_test"]
    named = {name_of_test(metric, symmetry) for metric in METRICS.values() for symmetry in SYMMETRIES}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/metrics/test_every_invariance.py"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    missing = sorted(named - set(collected))
    assert not missing, f"{len(missing)} of {len(named)} tests do not exist, such as {missing[:3]}"


@pytest.mark.parametrize("page", ["README.md", "docs/invariances.md"])
def test_table_of_invariances_is_what_the_metrics_declare(page: str) -> None:
    table = re.findall(r"^\| metric \| layers .*\n(?:\|.*\n)+", (ROOT / page).read_text(), re.MULTILINE)[0]
    (_, *headings), _, *rows = [
        [cell.strip("` ") for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]
    assert [name for name, *_ in rows] == list(METRICS)
    for name, *cells in rows:
        metric, found = METRICS[name], dict(zip(headings, cells, strict=True))
        marks = {"**=**": metric.unchanged_by, "≈": metric.unchanged_up_to_error}
        wrong = [
            s.heading
            for s in SYMMETRIES
            if s.heading in found and s not in marks.get(found[s.heading], metric.changed_by)
        ]
        assert "=" not in cells, f"{name} stays where it does not declare it: {found}"
        assert not wrong, f"{name} does not declare what it does under {wrong}: {found}"


def test_citation_names_the_library_and_its_sources() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["title"]) == ("1.2.0", "invariant_sharpness")
    incomplete = [
        r.get("title") for r in citation["references"] if not {"type", "title", "authors", "year"} <= r.keys()
    ]
    assert not incomplete, f"references without type, title, authors or year: {incomplete}"


def test_python_in_the_readme_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the README measures a PyTorch network, and torch is not installed")
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert snippets, "README.md has no Python in it"
    program = "\n".join(snippets)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, f"the README's code, run from top to bottom, fails:\n{result.stderr[-4000:]}"
