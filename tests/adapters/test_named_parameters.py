"""``parameters=`` measures the named parameters alone: the blocks of the dense Hessian, in every framework."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.errors import ArgumentError, ModelError
from invariant_sharpness.parameters.patterns import are_patterns
from invariant_sharpness_numpy import ReluNetwork

X, Y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6) % 2
NETWORK = ReluNetwork.initialize((3, 4, 2), seed=0)


def last_block(x: Any, weights: Any) -> Any:
    """The Hessian of the last layer's weight and bias by its closed form, the mean of (diag(p) - p p^T) x (h, 1) (h, 1)^T."""
    hidden = np.c_[np.maximum(x @ weights[0].T + weights[1], 0), np.ones(len(x))]
    outputs = hidden @ np.c_[weights[2], weights[3]].T
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    curvature = p[:, :, None] * np.eye(2) - p[:, :, None] * p[:, None, :]
    return np.einsum("nab,ni,nj->aibj", curvature, hidden, hidden) / len(x)


def trace_of_last_layer() -> float:
    assert NETWORK.biases is not None
    (first, last), (one, two) = NETWORK.weights, NETWORK.biases
    return float(np.einsum("aiai->", last_block(X, (first, one, last, two))))


@pytest.mark.parametrize(
    "patterns", ["layers.1.*", ["layers.1.weight", "layers.1.bias"], ("layers.1.w*", "layers.1.b*")]
)
def test_measures_are_those_of_the_block(patterns: Any) -> None:
    oracle = ish.oracle(NETWORK, (X, Y), parameters=patterns)
    assert [group.name for group in oracle.groups] == ["layers.1.weight", "layers.1.bias"], f"{oracle.groups}"
    found = ish.hessian_trace(oracle).value
    assert found == pytest.approx(trace_of_last_layer(), rel=1e-12), f"the trace is {found}"


def test_report_names_what_is_left_out() -> None:
    report = ish.measure(ish.oracle(NETWORK, (X, Y), parameters="layers.1.*"), "hessian_trace")
    assert report.notes == ("left out, and held where they are: layers.0.weight, layers.0.bias",), f"{report.notes}"
    assert report.notes[0] in " ".join(str(report).split()), f"the table does not say it:\n{report}"
    assert report.to_dict()["notes"] == list(report.notes), f"{report.to_dict()['notes']}"


def test_report_of_everything_leaves_nothing_out() -> None:
    report = ish.measure(ish.oracle(NETWORK, (X, Y)), "hessian_trace")
    assert report.notes == (), f"{report.notes}"


@pytest.mark.parametrize("base", [ish.GaussNewton, lambda oracle: ish.Moved(oracle, oracle.parameters)])
def test_what_is_left_out_is_known_in_other_coordinates(base: Any) -> None:
    oracle = base(ish.oracle(NETWORK, (X, Y), parameters="layers.1.*"))
    assert oracle.left_out == ("layers.0.weight", "layers.0.bias"), f"{oracle.left_out}"


def test_pattern_without_a_match_lists_the_names() -> None:
    with pytest.raises(ModelError, match=r"no parameter group matches 'layer.1.*'.*The groups are layers.0.weight"):
        ish.oracle(NETWORK, (X, Y), parameters="layer.1.*")


@pytest.mark.parametrize("wrong", [3, [], {"layers": X}, [X]])
def test_what_is_no_pattern_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="it is a name or a pattern, such as 'encoder"):
        ish.oracle(NETWORK, (X, Y), parameters=wrong)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a.*", True), (["a", "b"], True), (frozenset({"a"}), True), ([], False), ({"a": X}, False), ([X, "a"], False)],
)
def test_patterns_are_told_from_trees(value: Any, expected: bool) -> None:
    assert are_patterns(value) is expected, f"{value} is {'no' if expected else 'a'} pattern"


def test_torch_modules() -> None:
    torch = pytest.importorskip("torch")
    from invariant_sharpness_torch.training import relu_network

    model = relu_network(NETWORK.weights, NETWORK.biases)
    last = [name for name, _ in model.named_parameters()][2:]
    oracle = ish.oracle(model, (torch.tensor(X), torch.tensor(Y)), parameters=last)
    assert ish.hessian_trace(oracle).value == pytest.approx(trace_of_last_layer(), rel=1e-12)


def test_trees_of_jax_come_with_patterns() -> None:
    pytest.importorskip("jax")
    from invariant_sharpness_jax.relu import apply_relu_network, relu_parameters

    tree = relu_parameters(NETWORK.weights, NETWORK.biases)
    whole = ish.oracle(apply_relu_network, (X, Y), parameters=tree)
    last = [
        group.name for group in whole.groups if group.name.startswith("1") or ".1" in group.name or "[1]" in group.name
    ]
    oracle = ish.oracle(apply_relu_network, (X, Y), parameters=(tree, last))
    assert [group.name for group in oracle.groups] == last, f"{oracle.groups}"
    assert ish.hessian_trace(oracle).value == pytest.approx(trace_of_last_layer(), rel=1e-5)


def test_functions_of_jax_need_their_tree() -> None:
    pytest.importorskip("jax")
    from invariant_sharpness_jax.relu import apply_relu_network

    with pytest.raises(ModelError, match="its parameters are missing"):
        ish.oracle(apply_relu_network, (X, Y), parameters="*")
