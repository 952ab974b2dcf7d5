"""What a user gets from a check: an error with figures, a result of one line, a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from invariant_sharpness.errors import NonFiniteError
from invariant_sharpness.testing import CHECKS, CheckFailedError, check_oracle
from zoo.mistakes import MUTANTS
from zoo.mutants import Mutant, base, failures


def test_failure_is_raised_with_its_name_and_figures() -> None:
    with pytest.raises(CheckFailedError, match=r"^check_gradient: gradient\(p\) is not the derivative") as caught:
        check_oracle(MUTANTS["gradient 1 % too large"][1]())
    error = caught.value.figures["relative_error"]
    assert error == pytest.approx(0.01, rel=0.05), f"the gradient is 1 % off, but the error is {error}"


def test_check_is_a_function_that_can_be_called_alone() -> None:
    figures = CHECKS["check_symmetry"](base(), 0)
    assert figures["asymmetry"] < 1e-12, f"{figures}"


def test_oracle_that_raises_has_failed() -> None:
    def broken(*_: Any) -> Any:
        raise NonFiniteError("all is lost")

    found = failures(Mutant(base(), hessian_vector_product=broken))
    assert "the oracle raised NonFiniteError: all is lost" in found["check_symmetry"], f"{found}"


def test_result_prints_as_one_line_and_goes_to_json() -> None:
    results = check_oracle(MUTANTS["asymmetric product"][1](), on_fail="return")
    for result in results:
        assert "\n" not in str(result), f"more than one line: {result}"
        assert json.loads(json.dumps(result.to_dict()))["check"] == result.check
    (failed,) = [r for r in results if r.check == "check_symmetry"]
    assert str(failed).startswith("check_symmetry failed (asymmetry "), f"{failed}"


def test_unknown_way_to_fail_is_refused() -> None:
    with pytest.raises(ValueError, match="on_fail='ignore'"):
        check_oracle(base(), on_fail="ignore")  # type: ignore[arg-type]


def test_importing_the_checks_loads_no_test_framework() -> None:
    program = "import sys, invariant_sharpness.testing; print(*{n.split('.')[0] for n in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split()) & {"pytest", "hypothesis", "torch", "jax", "tensorflow", "sklearn"}
    assert not loaded, f"importing the checks loads {loaded}"
