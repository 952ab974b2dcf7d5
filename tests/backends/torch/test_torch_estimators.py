"""Estimates of networks that need probes: unbiased, with honest errors, equal for any batches."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from zoo.torch_derivatives import cross_entropy, dense_diagonal, dense_hessian, dense_matrix


class Own(nn.Linear):
    """A layer whose parameters enter nothing that is known to be a layer: each is multiplied first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, 1.0 * self.weight, 1.0 * self.bias)


def smooth_network() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A GELU network, of whose groups the certificate accepts the last layer alone; 119 parameters."""
    torch.manual_seed(3)
    model = nn.Sequential(Own(5, 8), nn.GELU(), Own(8, 5), nn.GELU(), Own(5, 4))
    return model.double().eval(), torch.randn(13, 5, dtype=torch.float64), torch.randint(0, 4, (13,))


@cache
def smooth_oracle(batch_size: int = 256) -> ish.CurvatureOracle:
    model, x, y = smooth_network()
    return ish.oracle(model, (x, y), batch_size=batch_size)


@cache
def dense() -> dict[str, dict[str, torch.Tensor]]:
    return dense_hessian(*smooth_network(), cross_entropy)


def coverage(estimates: list[ish.Estimate], truth: float) -> float:
    """Share of the 95 % intervals that hold the truth."""
    intervals = [estimate.interval() for estimate in estimates]
    return float(np.mean([lower <= truth <= upper for lower, upper in intervals]))


def test_only_the_last_layer_is_certified() -> None:
    diagonal = ish.hessian_diagonal(smooth_oracle(), probes=8)
    methods = {name: group.method for name, group in diagonal.groups.items()}
    assert {name for name, method in methods.items() if method == "exact"} == {"4.weight", "4.bias"}, str(methods)


@pytest.mark.slow
def test_sampled_diagonal_is_unbiased() -> None:
    diagonals = [ish.hessian_diagonal(smooth_oracle(), probes=8, seed=seed)["0.weight"].values for seed in range(60)]
    expected = dense_diagonal(smooth_network()[0], dense())["0.weight"].numpy()
    mean, error = np.mean(diagonals, axis=0), np.std(diagonals, axis=0, ddof=1) / np.sqrt(60)
    worst = float(np.abs((mean - expected) / error).max())
    assert worst < 4.5, f"an entry of the mean over 60 seeds is {worst:.1f} standard errors off"


@pytest.mark.slow
def test_standard_error_of_the_trace_covers_the_truth() -> None:
    truth = float(dense_matrix(dense()).trace())
    estimates = [ish.hessian_trace(smooth_oracle(), probes=8, seed=seed) for seed in range(200)]
    share = coverage(estimates, truth)
    assert 0.91 <= share <= 0.98, f"the 95 % intervals of the trace hold the truth for {share:.1%} of 200 seeds"


@pytest.mark.slow
def test_standard_error_of_the_frobenius_norm_covers_the_truth() -> None:
    truth = float(dense_matrix(dense()).norm())
    estimates = [ish.hessian_frobenius_norm(smooth_oracle(), probes=14, seed=seed) for seed in range(200)]
    share = coverage(estimates, truth)
    assert 0.90 <= share <= 0.98, f"the 95 % intervals of the norm hold the truth for {share:.1%} of 200 seeds"


def test_columns_are_taken_when_there_are_no_more_than_probes() -> None:
    diagonal = ish.hessian_diagonal(smooth_oracle(), probes=128)
    expected = dense_diagonal(smooth_network()[0], dense())
    for name, group in diagonal.groups.items():
        error = float(np.abs(group.values - expected[name].numpy()).max())
        assert error <= 1e-12, f"{name} ({group.method}) is off by {error:.1e}"


@pytest.mark.parametrize("name", ["hessian_trace", "normalized_sharpness", "hessian_frobenius_norm", "fisher_rao_norm"])
def test_batches_do_not_matter(name: str) -> None:
    model, x, y = smooth_network()
    function = ish.METRICS[name].function
    expected = function(smooth_oracle()).value
    parts = [(x[i : i + 3], y[i : i + 3]) for i in range(0, 13, 3)]
    for what, data in {"batches of 3": parts, "reversed batches": parts[::-1], "one batch": (x, y)}.items():
        value = function(ish.oracle(model, data)).value
        assert value == pytest.approx(expected, rel=1e-10), f"{name} with {what}: {value!r} instead of {expected!r}"


def test_equal_seeds_give_equal_numbers_and_different_ones_do_not() -> None:
    first, again, other = (ish.normalized_sharpness(smooth_oracle(), probes=8, seed=s).value for s in (5, 5, 6))
    assert first == again
    assert first != other


def test_lanczos_that_is_cut_short_says_so() -> None:
    estimate = ish.hessian_spectral_norm(smooth_oracle(), max_iterations=3)
    assert not estimate.converged
    assert "NOT CONVERGED" in str(estimate)


def test_a_residual_bounds_the_distance_to_an_eigenvalue() -> None:
    eigenvalues = torch.linalg.eigvalsh(dense_matrix(dense())).numpy()
    for steps in (3, 6, 12):
        estimate = ish.hessian_spectral_norm(smooth_oracle(), max_iterations=steps)
        distance = float(np.abs(np.abs(eigenvalues) - estimate.value).min())
        bound = (estimate.certificate or 0) * estimate.value
        assert distance <= bound + 1e-12, f"after {steps} steps: distance {distance:.1e}, residual {bound:.1e}"


@pytest.mark.slow
def test_sampled_normalized_sharpness_reports_an_error_of_the_right_size() -> None:
    estimates = [ish.normalized_sharpness(smooth_oracle(), probes=8, seed=seed) for seed in range(40)]
    scatter = float(np.std([e.value for e in estimates], ddof=1))
    reported = float(np.mean([e.standard_error or 0 for e in estimates]))
    assert 0.5 < reported / scatter < 2, f"reported {reported:.3g}, but the scatter over 40 seeds is {scatter:.3g}"
