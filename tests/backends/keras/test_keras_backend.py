"""The entry of the Keras backend."""

from __future__ import annotations

import subprocess
import sys

import pytest

from invariant_sharpness_keras import backend


def test_importing_the_backend_imports_no_framework() -> None:
    program = "import invariant_sharpness_keras, sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"keras", "tensorflow", "jax", "torch"} & set(run.stdout.split())


@pytest.mark.parametrize("model", [object(), 3, "model", [1.0]])
def test_other_objects_are_not_accepted(model: object) -> None:
    assert not backend.accepts(model)
