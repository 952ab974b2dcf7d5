"""Real architectures that nobody here wrote, from Hugging Face configurations with random weights."""

from __future__ import annotations

import pytest
import torch

import invariant_sharpness as ish

transformers = pytest.importorskip("transformers", reason="the test dependencies are not installed: make test")


def labelled(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**inputs, "labels": torch.randint(0, 3, (4,))}


def resnet() -> ish.CurvatureOracle:
    torch.manual_seed(0)
    configuration = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    model = transformers.ResNetForImageClassification(configuration).eval().double()
    return ish.oracle(model, labelled(pixel_values=torch.randn(4, 3, 32, 32)))


def gpt2() -> ish.CurvatureOracle:
    torch.manual_seed(0)
    configuration = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(configuration).eval().double()
    tokens = torch.randint(0, 20, (3, 6))
    return ish.oracle(model, {"input_ids": tokens, "labels": tokens})


def test_every_weight_of_a_residual_network_is_exact() -> None:
    diagonal = ish.hessian_diagonal(resnet())
    refused = {name: diagonal.defects[name] for name, group in diagonal.groups.items() if group.method != "exact"}
    assert not refused, f"refused although piecewise linear: {refused}"


def test_an_attention_model_has_symmetric_products_and_a_gradient_that_fits_its_loss() -> None:
    oracle = gpt2()
    point = oracle.parameters
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
    assert (kernel.shape, kernel.output_axes, kernel.input_axes) == ((8, 24), (1,), (0,))
    assert bias.owner == kernel.name
