"""The wheel holds the packages and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BACKENDS = ("numpy", "torch", "jax", "keras")
PACKAGES = {"invariant_sharpness", "invariant_sharpness_pytest", *(f"invariant_sharpness_{name}" for name in BACKENDS)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_has_every_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == PACKAGES


def test_wheel_has_every_module(wheel: zipfile.ZipFile) -> None:
    sources = [ROOT, ROOT / "backends"]
    expected = {
        str(path.relative_to(source)) for source in sources for path in source.glob("invariant_sharpness*/**/*.py")
    }
    missing = expected - set(wheel.namelist())
    assert not missing, f"not in the wheel: {sorted(missing)}"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_every_package_is_marked_as_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_entry_points_name_the_command_the_backends_and_the_options_of_pytest(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    backends = [f"{name} = invariant_sharpness_{name}:backend" for name in BACKENDS]
    options = "invariant_sharpness_pytest = invariant_sharpness_pytest"
    for line in ("invariant-sharpness = invariant_sharpness.cli:main", options, *backends):
        assert line in text, f"{line!r} is not in\n{text}"
