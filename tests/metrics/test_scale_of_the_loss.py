"""A loss in other units: every value moves by a power of the unit, also where squares leave the range of single precision."""

from __future__ import annotations

import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import NonFiniteError

torch = pytest.importorskip("torch")

DEGREES = {
    "hessian_trace": 1,
    "hessian_spectral_norm": 1,
    "hessian_frobenius_norm": 1,
    "worst_case_adaptive_sharpness": 1,
    "expected_sharpness": 1,
    "average_adaptive_sharpness": 1,
    "relative_flatness": 1,
    "local_regret": 1,
    "critical_sharpness": 1,
    "batch_sharpness": 1,
    "pooled_batch_sharpness": 1,
    "preconditioned_sharpness": 1,
    "non_euclidean_sharpness": 1,
    "one_step_sharpness": 1,
    "matrix_normalized_sharpness": 0.5,
    "parameter_normalized_sharpness": 0.5,
    "normalized_sharpness": 0.5,
    "head_normalized_sharpness": 0.5,
    "kl_regret": 0.5,
    "contrastive_ratio": 0,
}


def oracle(exponent: int) -> ish.CurvatureOracle:
    """The mean squared error of a small network in single precision, times a power of two."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(32, size, generator=generator) for size in (4, 2))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    return ish.oracle(network, (x, y), loss=lambda z, t: ((z - t) ** 2).mean(-1) * 2.0**exponent)


@pytest.mark.parametrize("exponent", [-80, 80])
@pytest.mark.parametrize("name", DEGREES)
def test_values_move_by_their_power_of_the_unit(name: str, exponent: int) -> None:
    before, after = (ish.METRICS[name](oracle(e)).value for e in (0, exponent))
    moved = before * 2.0 ** (exponent * DEGREES[name])
    assert after == pytest.approx(moved, rel=1e-5), (
        f"{name} is {before:.6g}, and {after:.6g} of 2^{exponent} times the loss, but that is 2^{exponent * DEGREES[name]} times as much: {moved:.6g}"
    )


@pytest.mark.parametrize("form", ["diagonal", "full"])
def test_fisher_rao_norm_refuses_squares_below_the_smallest_number(form: str) -> None:
    with pytest.raises(NonFiniteError, match="below the smallest number of this precision"):
        ish.METRICS["fisher_rao_norm"](oracle(-80), form=form)
