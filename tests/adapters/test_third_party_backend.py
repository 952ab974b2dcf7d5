"""A backend of somebody else: a distribution with an entry point, installed by pip, is found and checked like ours."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "curvature-of-lines"
version = "0.1"

[project.entry-points."invariant_sharpness.backends"]
lines = "curvature_of_lines:backend"

[tool.hatch.build.targets.wheel]
only-include = ["curvature_of_lines.py"]
"""

MODULE = '''
import numpy as np
from invariant_sharpness import ParameterGroup, ParameterVector


class Line:
    """The outputs ``x @ slope``."""

    def __init__(self, slope):
        self.slope = slope


class LineOracle:
    """The mean squared error of a line."""

    xp = np

    def __init__(self, line, x, y):
        self._slope, self._x, self._y = np.array(line.slope, dtype=float), x, y
        self.groups = (ParameterGroup("slope", self._slope.shape),)

    @property
    def parameters(self):
        return self.from_numpy({"slope": self._slope})

    def loss(self, p, /):
        return float(np.mean((self._x @ p["slope"] - self._y) ** 2))

    def gradient(self, p, /):
        return self.from_numpy({"slope": 2 * (self._x @ p["slope"] - self._y) @ self._x / len(self._x)})

    def hessian_vector_product(self, p, v, /):
        return self.from_numpy({"slope": 2 * (self._x @ v["slope"]) @ self._x / len(self._x)})

    def from_numpy(self, arrays, /):
        return ParameterVector(np, {"slope": np.array(arrays["slope"])})

    def to_numpy(self, vector, /):
        return {"slope": np.array(vector["slope"])}


class Backend:
    name = "lines"

    def accepts(self, model, /):
        return isinstance(model, Line)

    def oracle(self, model, data, /, *, loss, **options):
        return LineOracle(model, *data)


backend = Backend()
'''

USE = """
import numpy as np
import invariant_sharpness as ish
from curvature_of_lines import Line
from invariant_sharpness.testing import check_oracle

random = np.random.default_rng(0)
x = random.normal(size=(20, 3))
oracle = ish.oracle(Line([1.0, -2.0, 0.5]), (x, x @ [0.5, 1, 2]), loss="mse")
print(*check_oracle(oracle), sep="\\n")
print("relative error of the trace", ish.hessian_trace(oracle).value / (2 * np.sum(x**2) / 20) - 1)
"""


def installed(folder: Path, module: str) -> Path:
    """Where pip puts the distribution with this module."""
    pytest.importorskip("hatchling")
    if find_spec("pip") is None:
        pytest.skip("pip is not installed, which installs the backend of the test")
    source, site = folder / "source", folder / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "curvature_of_lines.py").write_text(module)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"pip cannot install the distribution:\n{run.stderr}"
    return site


def run(program: str, site: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, cwd=site
    )


def test_installed_backend_is_found_and_passes_the_checks(tmp_path: Path) -> None:
    result = run(USE, installed(tmp_path, MODULE))
    assert result.returncode == 0, result.stderr
    assert "check_second_derivative passed" in result.stdout, result.stdout
    error = float(result.stdout.split()[-1])
    assert abs(error) < 1e-12, f"the trace is off by {error}"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "import package_that_is_not_there",
            "the backend 'lines' (curvature_of_lines:backend) cannot be loaded: "
            "No module named 'package_that_is_not_there'",
        ),
        ("backend = 7", "the entry point 'lines' (curvature_of_lines:backend) is a int, which is not a backend"),
    ],
    ids=["import fails", "not a backend"],
)
def test_broken_backend_is_named(tmp_path: Path, module: str, message: str) -> None:
    result = run("import invariant_sharpness as ish\nish.oracle(object(), None)", installed(tmp_path, module))
    assert result.returncode == 1, result.stdout
    assert f"ModelError: {message}" in result.stderr, result.stderr
