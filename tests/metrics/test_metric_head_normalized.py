"""Normalized sharpness of attention heads: dense Gauss-Newton blocks and SciPy, every change of basis, and its limits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import invariant_sharpness as ish
from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.estimators.diagonal_blocks import blocks_of_columns, blocks_of_examples
from invariant_sharpness_numpy import FunctionOracle
from zoo.attention import (
    CLASSES,
    COUNT,
    EXAMPLES,
    HEAD_WIDTH,
    HEADS,
    TOKENS,
    WIDTH,
    in_another_basis,
    oracle,
    problem,
    rescaled,
)
from zoo.head_problems import scipy_minimum
from zoo.seeds import seeds
from zoo.solver_problems import scipy_minimum as scipy_minimum_of_17
from zoo.vectors import assert_close


@cache
def dense_gauss_newton() -> dict[str, Any]:
    """The block of each weight as ``(*shape, *shape)``, from the Jacobian of torch.func and the closed form of the output Hessian."""
    model, x, _ = problem()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (x,)))(parameters)
    p = model(x).softmax(-1).detach()
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return {
        name: torch.einsum("njab,njk,nkcd->abcd", J, inner, J).numpy() / EXAMPLES
        for name, J in jacobian.items()
        if name.endswith("weight")
    }


def dense_blocks(name: str) -> tuple[Any, Any]:
    """Curvatures and weights ``(heads, rows, width)``, the heads along the first axis but for the output's projection."""
    G, W = dense_gauss_newton()[name], problem()[0].get_parameter(name).detach().numpy()
    if name == "out.weight":
        G, W = G.transpose(1, 0, 3, 2), W.T
    units = [slice(HEAD_WIDTH * head, HEAD_WIDTH * (head + 1)) for head in range(COUNT)]
    curvatures = [[G[part, row, part, row] for row in range(WIDTH)] for part in units]
    return np.array(curvatures), np.stack([W[part].T for part in units])


def value(measured: Any, **options: Any) -> float:
    return ish.head_normalized_sharpness(measured, heads=HEADS, **options).value


def test_each_weight_has_the_value_that_scipy_finds_for_dense_blocks() -> None:
    found = ish.head_normalized_sharpness(oracle(), heads=HEADS)
    for name in HEADS:
        assert_close(found.per_group[name].value, scipy_minimum(*dense_blocks(name)), name, 1e-9)
    for name in ("inner.weight", "head.weight"):
        h = np.einsum("abab->ab", dense_gauss_newton()[name])
        W = problem()[0].get_parameter(name).detach().numpy()
        assert_close(found.per_group[name].value, scipy_minimum_of_17(h, W**2, np.zeros(sum(W.shape))), name, 1e-9)
    assert found.converged, str(found)
    assert_close(found.value, sum(share.value for share in found.per_group.values()), "the sum of the shares", 1e-14)


def test_value_is_proportional_to_the_inverse_root_of_lambda() -> None:
    assert_close(value(oracle(), lam=2.0), value(oracle()) / 2, "the value at lambda = 2", 1e-11)


@seeds(3)
def test_any_basis_of_the_heads_leaves_it_alone_but_moves_17(seed: int) -> None:
    there = in_another_basis(oracle(), seed)
    assert_close(there.loss(there.parameters), oracle().loss(oracle().parameters), "the loss", 1e-13)
    before, after = (ish.head_normalized_sharpness(o, heads=HEADS).per_group for o in (oracle(), there))
    plain = [ish.normalized_sharpness(ish.GaussNewton(o)).per_group for o in (oracle(), there)]
    for name in HEADS:
        assert_close(after[name].value, before[name].value, f"{name} in another basis", 1e-10)
        factor = plain[1][name].value / plain[0][name].value
        assert abs(np.log(factor)) > 0.2, f"(17) of {name} moved by a factor of {factor} alone"


def test_rescaled_units_leave_it_alone() -> None:
    assert_close(value(rescaled(oracle())), value(oracle()), "the value of the rescaled network", 1e-11)


def test_value_is_at_most_that_of_17() -> None:
    ours = ish.head_normalized_sharpness(oracle(), heads=HEADS).per_group
    plain = ish.normalized_sharpness(ish.GaussNewton(oracle())).per_group
    for name, share in ours.items():
        assert share.value <= plain[name].value * (1 + 1e-12), f"{name}: {share.value} > {plain[name].value}"
        assert name not in HEADS or share.value < 0.99 * plain[name].value, f"{name} gains nothing from its heads"


@pytest.mark.parametrize("side", ["output", "input"])
def test_heads_of_width_one_give_17(side: Any) -> None:
    heads = {name: ish.Heads(WIDTH, side) for name in HEADS}
    found = ish.head_normalized_sharpness(oracle(), heads=heads).value
    assert_close(found, ish.normalized_sharpness(ish.GaussNewton(oracle())).value, "heads of width one", 1e-11)


def test_without_heads_it_is_17_and_says_so() -> None:
    found = ish.head_normalized_sharpness(oracle())
    assert_close(found.value, ish.normalized_sharpness(ish.GaussNewton(oracle())).value, "no heads", 1e-14)
    assert any("no heads were named" in note for note in found.notes), found.notes


def test_17_of_named_weights_is_the_sum_of_their_shares() -> None:
    shares = ish.normalized_sharpness(oracle()).per_group
    found = ish.normalized_sharpness(oracle(), parameters=frozenset({"out.weight", "head.weight"}))
    assert list(found.per_group) == ["out.weight", "head.weight"], found.per_group
    assert_close(
        found.per_group["head.weight"].value, shares["head.weight"].value, "the share of the last layer", 1e-14
    )
    assert_close(found.value, sum(share.value for share in found.per_group.values()), "the sum of the shares", 1e-14)


def test_columns_and_examples_give_the_same_blocks() -> None:
    groups = {group.name: group for group in oracle().groups}
    places = {name: own.split(groups[name], np.arange(36).reshape(6, 6)) for name, own in HEADS.items()}
    columns, examples = blocks_of_columns(oracle(), places), blocks_of_examples(oracle(), places, CLASSES, 0)
    assert examples is not None, "the examples do not make up the loss"
    for name in HEADS:
        error = float(np.abs(columns[name] - examples[name]).max() / np.abs(columns[name]).max())
        assert error <= 1e-12, f"the blocks of {name} differ by {error:.1e}"
        off = float(np.abs(columns[name] - dense_blocks(name)[0]).max() / np.abs(columns[name]).max())
        assert off <= 1e-12, f"the blocks of {name} are off by {off:.1e}"


def test_weighted_examples_are_left_to_columns() -> None:
    weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    weighted = oracle(loss=nn.CrossEntropyLoss(weight=weight))
    found = ish.head_normalized_sharpness(weighted, heads={"key.weight": ish.Heads(COUNT)})
    assert found.per_group["key.weight"].method == "exact (columns)", str(found)
    assert_close(value(in_another_basis(weighted, 4)), value(weighted), "the weighted value in another basis", 1e-10)


def test_single_precision_has_the_same_value() -> None:
    found = ish.head_normalized_sharpness(oracle(dtype="float32"), heads=HEADS)
    assert_close(found.value, value(oracle()), "the value in single precision", 1e-4)


@pytest.mark.slow
def test_value_is_the_same_on_jax() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    model, x, y = problem()
    parameters: dict[str, dict[str, Any]] = {}
    for name, p in model.named_parameters():
        layer, kind = name.split(".")
        parameters.setdefault(layer, {})["kernel" if kind == "weight" else kind] = p.detach().numpy().T.copy()

    def apply(p: Any, x: Any) -> Any:
        def dense(name: str, x: Any) -> Any:
            return x @ p[name]["kernel"] + p[name]["bias"]

        def split(x: Any) -> Any:
            return x.reshape(*x.shape[:2], COUNT, HEAD_WIDTH).swapaxes(1, 2)

        q, k, v = (split(dense(name, x)) for name in ("query", "key", "value"))
        mixed = jax.nn.softmax(q @ k.swapaxes(2, 3) / HEAD_WIDTH**0.5) @ v
        x = x + dense("out", mixed.swapaxes(1, 2).reshape(len(x), TOKENS, WIDTH))
        return dense("head", jax.nn.relu(dense("inner", x)).mean(1))

    there = ish.oracle(apply, (x.numpy(), y.numpy()), parameters=parameters, batch_size=EXAMPLES)
    heads = {name.replace("weight", "kernel"): own for name, own in HEADS.items()}
    assert_close(ish.head_normalized_sharpness(there, heads=heads).value, value(oracle()), "the value on JAX", 1e-10)


def test_fused_and_transposed_kernels_fall_into_the_same_heads() -> None:
    """A kernel ``(inputs, outputs)`` of two heads, and one that Flax stores as ``(features, heads, width)``."""
    flat = ish.ParameterGroup("kernel", (2, 6), "matrix", output_axes=(1,), input_axes=(0,))
    cut = ish.ParameterGroup("kernel", (2, 2, 3), "matrix", output_axes=(1, 2), input_axes=(0,))
    expected = [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]
    for group in (flat, cut):
        found = ish.Heads(2).split(group, np.arange(12).reshape(group.shape))
        assert found.tolist() == expected, f"{group.shape}: {found.tolist()}"
    inward = ish.Heads(2, "input").split(flat, np.arange(12).reshape(2, 6))
    assert inward.tolist() == [[[k] for k in range(6)], [[k] for k in range(6, 12)]], inward.tolist()


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"querry.weight": ish.Heads(2)}, "there is no parameter 'querry.weight'; the weights are query.weight"),
        ({"query.weight": ish.Heads(4)}, "has 6 output units, which are not 4 heads of equal width"),
        ({"query.bias": ish.Heads(2)}, "'query.bias' has no heads: it is no dense weight"),
        ({"query.weight": ish.Heads(2, "row")}, "side='row', but the heads of a weight are along"),  # type: ignore[arg-type]
    ],
)
def test_wrong_heads_are_refused(heads: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ish.head_normalized_sharpness(oracle(), heads=heads)


def test_too_many_products_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="need 144 Gauss-Newton products, one for each entry, and num_matvecs=5"):
        ish.head_normalized_sharpness(oracle(), heads=HEADS, num_matvecs=5)


def test_loss_that_is_not_convex_in_the_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match="a loss that is not convex in the outputs"):
        ish.head_normalized_sharpness(oracle(loss="normalized_cross_entropy"), heads=HEADS)


def test_head_that_moves_nothing_costs_nothing() -> None:
    """Without a projection of its outputs, the curvature of its queries, keys and values vanishes."""
    base = oracle()
    p = base.to_numpy(base.parameters)
    p["out.weight"][:, :HEAD_WIDTH] = 0
    found = ish.head_normalized_sharpness(ish.Moved(base, base.from_numpy(p)), heads=HEADS)
    assert found.converged, str(found)
    assert all(np.isfinite(share.value) and share.value > 0 for share in found.per_group.values()), found.per_group
    p["out.weight"][:] = 0
    dead = ish.head_normalized_sharpness(ish.Moved(base, base.from_numpy(p)), heads=HEADS)
    assert all(dead.per_group[name].value == 0 for name in HEADS), dead.per_group
    assert any("in 4 of 4 weights with heads the infimum is not attained" in note for note in dead.notes), dead.notes


def test_oracle_without_gauss_newton_products_is_told_what_is_missing() -> None:
    bare = FunctionOracle({"w": np.ones((2, 2))}, lambda _: 0.0, lambda p: p, lambda _, v: v)
    with pytest.raises(MissingCapabilityError, match="head_normalized_sharpness needs gauss_newton_vector_product"):
        ish.head_normalized_sharpness(bare)
