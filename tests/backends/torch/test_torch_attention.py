"""A vision transformer and GPT-2 as others wrote them: what is exact, what is sampled and why, what a rescaling changes."""

from __future__ import annotations

import re
import runpy
from functools import cache
from math import isfinite
from typing import Any

import numpy as np
import pytest
import torch

import invariant_sharpness as ish
from invariant_sharpness.estimators.affine_test import curvature_defects, exact_groups
from zoo import EXPERIMENTS
from zoo.invariant_metrics import relative_change

pytestmark = pytest.mark.slow

networks = runpy.run_path(str(EXPERIMENTS / "real_models.py"))

WIDTH = 64
SAMPLED = ("hessian_trace", "parameter_normalized_sharpness", "normalized_sharpness")


@cache
def vision_transformer() -> Any:
    model, data = networks["vision_transformer"](layers=2, width=WIDTH, heads=2, patch=8)
    return ish.oracle(model, data, dtype="float64")


@cache
def gpt2(*, tied: bool = True) -> Any:
    model, data = networks["gpt2"](layers=2, width=WIDTH, tied=tied)
    return ish.oracle(model, data, dtype="float64", forward=networks["next_bytes"])


ORACLES = {"vision transformer": vision_transformer, "GPT-2": gpt2}
every_network = pytest.mark.parametrize("network", ORACLES)


@cache
def report(network: str) -> ish.Report:
    return ish.measure(ORACLES[network](), SAMPLED)


def certified(oracle: Any) -> set[str]:
    return set(exact_groups(oracle, curvature_defects(oracle)))


def test_only_what_follows_the_last_nonlinearity_of_a_vision_transformer_is_exact() -> None:
    found = certified(vision_transformer())
    affine = {"vit.layernorm.weight", "vit.layernorm.bias", "classifier.weight", "classifier.bias"}
    assert found == affine, f"certified: {sorted(found)}"


def test_only_the_last_norm_of_a_tied_language_model_is_exact() -> None:
    found = certified(gpt2())
    assert found == {"transformer.ln_f.weight", "transformer.ln_f.bias"}, f"certified: {sorted(found)}"


def test_an_untied_head_is_exact() -> None:
    found = certified(gpt2(tied=False))
    affine = {"transformer.ln_f.weight", "transformer.ln_f.bias", "lm_head.weight"}
    assert found == affine, f"certified: {sorted(found)}"


@every_network
@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_value_is_finite_with_an_error(network: str, name: str) -> None:
    estimate = report(network)[name]
    assert isfinite(estimate.value), estimate
    assert estimate.standard_error is not None, estimate
    assert estimate.standard_error > 0, estimate


def test_every_sampled_weight_says_why() -> None:
    shares = report("vision transformer")["normalized_sharpness"].per_group
    assert {name for name, share in shares.items() if share.method == "exact"} == {"classifier.weight"}
    silent = [
        n for n, s in shares.items() if s.method == "probes" and not re.match("the outputs are not affine", s.note)
    ]
    assert not silent, f"sampled, but it is not said why: {silent}"


def test_the_outputs_of_a_language_model_are_sampled_for_its_head_alone() -> None:
    oracle = gpt2(tied=False)
    assert oracle.outputs_per_example == 63 * 256
    shares = ish.normalized_sharpness(oracle, probes=8).per_group
    assert {name for name, share in shares.items() if share.method == "sampled outputs"} == {"lm_head.weight"}


def test_all_weights_of_a_language_model_have_a_sampled_gauss_newton_diagonal() -> None:
    estimate = ish.normalized_sharpness(ish.GaussNewton(gpt2()), probes=8)
    assert {share.method for share in estimate.per_group.values()} == {"sampled outputs"}, estimate.method
    assert estimate.bracket is not None, estimate
    assert estimate.bracket.lower < estimate.bracket.upper, estimate.bracket


@every_network
def test_rescaling_within_attention_heads_changes_the_trace_but_not_normalized_sharpness(network: str) -> None:
    oracle = ORACLES[network]()
    parameters = oracle.parameters * oracle.from_numpy(head_factors(oracle, np.random.default_rng(0)))
    moved = ish.measure(ish.Moved(oracle, parameters), SAMPLED)
    assert moved.loss == report(network).loss, f"the loss was {report(network).loss}, and is {moved.loss}"
    for name in ("normalized_sharpness", "parameter_normalized_sharpness"):
        before, after = report(network)[name], moved[name]
        change = relative_change(before.value, after.value)
        # the tolerance of the solver; powers of two change nothing else, not even a single probe
        assert change <= 1e-12, f"before: {before}; after: {after} ({change:.1e})"
    before, after = report(network)["hessian_trace"], moved["hessian_trace"]
    assert relative_change(before.value, after.value) > 0.5, f"before: {before}; after: {after}"


def head_factors(oracle: ish.CurvatureOracle, random: np.random.Generator) -> dict[str, Any]:
    """Queries times a, keys divided by a; values times b, the outputs' projection divided by b: powers of two, by channel."""
    shapes = {group.name: group.shape for group in oracle.groups}
    factors = {name: np.ones(shape) for name, shape in shapes.items()}
    for layer in range(2):
        a, b = (np.ldexp(1.0, random.integers(-6, 7, WIDTH)) for _ in range(2))
        if "vit.layers.0.attention.q_proj.weight" in shapes:
            prefix = f"vit.layers.{layer}.attention"
            for part, factor in (("q", a), ("k", 1 / a), ("v", b)):
                factors[f"{prefix}.{part}_proj.weight"] *= factor[:, None]
                factors[f"{prefix}.{part}_proj.bias"] *= factor
            factors[f"{prefix}.o_proj.weight"] /= b
        else:
            prefix = f"transformer.h.{layer}.attn"
            fused = np.concatenate([a, 1 / a, b])
            factors[f"{prefix}.c_attn.weight"] *= fused
            factors[f"{prefix}.c_attn.bias"] *= fused
            factors[f"{prefix}.c_proj.weight"] /= b[:, None]
    return factors


def test_an_attention_model_has_symmetric_products_and_a_gradient_that_fits_its_loss() -> None:
    oracle = gpt2()
    point = oracle.parameters
    torch.manual_seed(1)
    u = ish.ParameterVector(oracle.xp, {name: torch.randn_like(p) for name, p in point.arrays.items()})
    v = ish.ParameterVector(oracle.xp, {name: torch.randn_like(p) for name, p in point.arrays.items()})
    left = u.dot(oracle.hessian_vector_product(point, v))
    right = v.dot(oracle.hessian_vector_product(point, u))
    assert left == pytest.approx(right, rel=1e-10)
    step = 1e-5
    difference = oracle.loss(point + step * u) - oracle.loss(point - step * u)
    assert difference / (2 * step) == pytest.approx(u.dot(oracle.gradient(point)), rel=1e-6)
    slopes = oracle.gradient(point + step * u) - oracle.gradient(point - step * u)
    assert v.dot(slopes) / (2 * step) == pytest.approx(left, rel=1e-5)


def test_the_fused_kernels_of_a_language_model_are_stored_inputs_first() -> None:
    groups = {group.name: group for group in gpt2().groups}
    kernel, bias = groups["transformer.h.0.attn.c_attn.weight"], groups["transformer.h.0.attn.c_attn.bias"]
    assert (kernel.shape, kernel.output_axes, kernel.input_axes) == ((WIDTH, 3 * WIDTH), (1,), (0,))
    assert bias.owner == kernel.name
