"""The core knows no framework: importing it loads none, and no file of it names one."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import invariant_sharpness
from zoo import ROOT

CORE = Path(invariant_sharpness.__file__).parent
FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "tensorflow", "keras", "transformers"}
OPTIONAL = FRAMEWORKS | {"matplotlib", "pandas", "sklearn"}
BACKENDS = {f"invariant_sharpness_{name}" for name in ("numpy", "torch", "jax", "keras")}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import in a file, at the top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, (node.module or "").split(".")[0]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules of a fresh interpreter after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{statement!r} fails:\n{run.stderr}"
    return set(run.stdout.split())


def test_importing_the_library_loads_no_framework_and_no_optional_package() -> None:
    loaded = loaded_after("import invariant_sharpness")
    assert "invariant_sharpness" in loaded, f"the library itself is not among {sorted(loaded)}"
    assert not loaded & (OPTIONAL | BACKENDS), f"the core loads {sorted(loaded & (OPTIONAL | BACKENDS))}"


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_no_file_of_the_core_names_a_framework_or_a_backend(path: Path) -> None:
    forbidden = [(line, name) for line, name in imported(path) if name in FRAMEWORKS | BACKENDS]
    assert not forbidden, f"{path.relative_to(CORE)} imports {forbidden}"


def test_namespaces_have_the_flat_names() -> None:
    ish = invariant_sharpness
    for space in (ish.metrics, ish.estimators, ish.symmetries):
        flat = [name for name in space.__all__ if hasattr(ish, name)]
        assert flat, f"{space.__name__} has none of the flat names"
        assert all(getattr(ish, name) is getattr(space, name) for name in flat), flat
    assert set(ish.metrics.METRICS) < set(ish.__all__)
    assert ish.errors.InvariantSharpnessError is ish.InvariantSharpnessError
    assert {"balanced", "filter_norms", "magnitudes", "matrix_norms", "optimal"} <= set(ish.scales.__all__)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """The rules of the rooms, on a copy of the sources."""
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--config",
        str(ROOT / ".importlinter"),
        "--no-cache",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "backends")])}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("", ""),
        ("invariant_sharpness/losses/labels.py", "from invariant_sharpness.metrics import METRICS"),
        ("backends/invariant_sharpness_torch/models.py", "from invariant_sharpness.estimators import xtrace"),
    ],
    ids=["none", "upwards", "from a backend"],
)
def test_planted_violation_of_the_order_of_rooms_is_caught(tmp_path: Path, file: str, planted: str) -> None:
    pytest.importorskip("importlinter")
    for folder in ("invariant_sharpness", "backends"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    if planted:
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{planted}\n")
    run = lint_imports(tmp_path)
    assert (run.returncode != 0) == bool(planted), f"planted {planted!r}:\n{run.stdout[-1500:]}{run.stderr[-500:]}"
