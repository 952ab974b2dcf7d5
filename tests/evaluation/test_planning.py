"""What a measurement costs is known before it runs, within a factor of 1.5, or said to be unknown; the clock counts what an oracle is asked for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.evaluation import call_costs
from invariant_sharpness_numpy import ReluNetwork, quadratic
from zoo.counted_calls import CountedCalls
from zoo.installed import missing

METRICS = ["normalized_sharpness", "hessian_trace", "matrix_normalized_sharpness", "fisher_rao_norm"]
RANDOM = np.random.default_rng(0)


Counting = Callable[[Any], CountedCalls]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Count the calls to an oracle, by the clock of the plan."""

    def counted(oracle: Any) -> CountedCalls:
        found = CountedCalls(oracle)
        monkeypatch.setattr(call_costs, "time", SimpleNamespace(perf_counter=lambda: found.gradients))
        return found

    return counted


def relu_oracle(classes: int = 4, width: int = 20, examples: int = 32) -> Any:
    network = ReluNetwork.initialize((8, width, 16, classes), seed=0)
    return ish.oracle(network, (RANDOM.normal(size=(examples, 8)), RANDOM.integers(0, classes, examples)))


def factor(oracle: CountedCalls, metrics: Any = METRICS, **options: Any) -> float:
    """Counted gradients of a measurement over those that were planned."""
    planned = ish.plan(oracle, metrics, **options).gradients
    assert planned is not None, "the cost is not known"
    before = oracle.gradients
    ish.measure(oracle, metrics, **options)
    return (oracle.gradients - before) / planned


@pytest.mark.parametrize("classes", [4, 80])
def test_exact_and_sampled_diagonals_cost_what_was_planned(classes: int, counting: Counting) -> None:
    found = factor(counting(relu_oracle(classes)), probes=16)
    assert 1 / 1.5 <= found <= 1.5, f"{found:.2f} times what was planned"


class InParts(CountedCalls):
    """An oracle that notes how many examples its parts have, and does not count what is asked of these."""

    examples_of_parts: tuple[int, ...] = ()

    def subset(self, examples: Sequence[int]) -> Any:
        self.examples_of_parts += (len(examples),)
        return self.base.subset(examples)


def test_calls_are_timed_on_a_part_of_the_data() -> None:
    """Of all data a plan takes two gradients for their time, one with a loss for the rehearsal, and the affine test."""
    counted = InParts(relu_oracle(examples=1024))
    ish.plan(counted, METRICS)
    assert counted.examples_of_parts == (64,), f"parts of {counted.examples_of_parts} of 1,024 examples"
    assert counted.gradients <= 6, f"the plan took {counted.gradients:.1f} gradients"


def test_what_iterates_until_it_converges_is_said_to_be_unknown(counting: Counting) -> None:
    oracle = relu_oracle(width=3)
    plan = ish.plan(counting(oracle), ["hessian_spectral_norm", "hessian_trace"])
    cost = plan["hessian_spectral_norm"]
    assert cost.gradients is None, f"{cost}"
    assert "it goes on until it converges" in cost.words, cost.words
    assert (plan.gradients, plan.minutes) == (None, None), f"{plan}"
    counted = CountedCalls(oracle)
    ish.hessian_spectral_norm(counted)
    assert cost.least <= counted.gradients <= cost.most, f"{counted.gradients:.0f} gradients, {cost.words} were planned"


def test_a_reason_that_depends_on_the_curvature_is_a_reason() -> None:
    def refusing(oracle: Any) -> float:
        curvature = oracle.hessian_vector_product(oracle.parameters, oracle.parameters).norm()
        msg = f"no value at the curvature {curvature}"
        raise ish.errors.LossError(msg)

    cost = ish.plan(relu_oracle(), refusing)["refusing"]
    assert cost.gradients is None, f"{cost}"
    assert "no value at the curvature" in cost.words, cost.words


def test_what_cannot_be_measured_says_why() -> None:
    cost = ish.plan(quadratic(np.eye(2), [[1.0, 1.0]]), "fisher_rao_norm")["fisher_rao_norm"]
    assert cost.gradients is None, f"{cost}"
    assert "fisher_rao_norm needs" in cost.words, cost.words


@pytest.mark.slow
def test_every_metric_has_a_plan() -> None:
    few = {"num_matvecs": 16}
    chosen = [m.with_options(name=m.name, **few) if few.keys() <= m.options else m for m in ish.METRICS.values()]
    plan = ish.plan(relu_oracle(width=6), chosen, probes=8)
    assert set(ish.METRICS) <= set(plan), f"{set(ish.METRICS) - set(plan)} have none"
    assert all(cost.words for cost in plan.values()), f"{plan}"


def test_memory_is_what_is_held() -> None:
    """Three vectors of a megabyte at least, so that nothing else counts; measured on the oracle itself by the same allocator."""
    oracle = relu_oracle(width=3000)
    planned = ish.plan(oracle, "hessian_trace", probes=8).memory
    tracemalloc.start()
    ish.hessian_trace(oracle, probes=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    activations = 32 * 2 * 3000 * 8 * 4
    assert planned / 1.5 <= peak <= 1.5 * (planned + activations), f"{peak} bytes, {planned} were planned"


def test_table_says_what_takes_how_long() -> None:
    text = str(ish.plan(relu_oracle(), "hessian_trace"))
    for word in ("the diagonal that they share", "hessian_trace", "together", "minutes", "MiB"):
        assert word in text, text


def test_metric_that_is_not_planned_is_named() -> None:
    plan = ish.plan(relu_oracle(), "hessian_trace")
    with pytest.raises(KeyError, match="hessian_trace"):
        plan["hessian_tracee"]


def torch_networks() -> dict[str, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 8, 8), torch.randint(0, 4, (32,))
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
    pooled = nn.Sequential(nn.TransformerEncoder(block, 4, enable_nested_tensor=False), nn.Flatten(), nn.Linear(96, 4))
    convolutions = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    return {
        "perceptron": (nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 4)), (images, labels)),
        "convolutions": (nn.Sequential(*convolutions), (images, labels)),
        "transformer": (pooled.eval(), (torch.randn(32, 6, 16), labels)),
    }


@pytest.mark.slow
@pytest.mark.skipif(bool(missing("torch")), reason="torch is not installed")
@pytest.mark.parametrize("kind", ["perceptron", "convolutions", "transformer"])
def test_torch_costs_what_was_planned(kind: str, counting: Counting) -> None:
    found = factor(counting(ish.oracle(*torch_networks()[kind])))
    assert 1 / 1.5 <= found <= 1.5, f"{found:.2f} times what was planned"


def jax_oracle(kind: str) -> Any:
    """The same three kinds of network as functions."""
    import jax

    random, relu = np.random.default_rng(0), jax.nn.relu

    def drawn(*shape: int) -> Any:
        return jax.numpy.asarray(random.normal(size=shape) / np.prod(shape[:-1]) ** 0.5)

    def perceptron(p: Any, x: Any) -> Any:
        return relu(x.reshape(len(x), -1) @ p["first"]) @ p["last"]

    def convolutions(p: Any, x: Any) -> Any:
        for kernel in (p["one"], p["two"]):
            layout = ("NHWC", "HWIO", "NHWC")
            x = relu(jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout))
        return x.reshape(len(x), -1) @ p["last"]

    def transformer(p: Any, x: Any) -> Any:
        for block in p["blocks"]:
            scores = (x @ block["query"]) @ (x @ block["key"]).swapaxes(1, 2) / 4
            x = x + jax.nn.softmax(scores) @ (x @ block["value"])
            x = x + jax.nn.gelu(x @ block["up"]) @ block["down"]
        return x.mean(1) @ p["last"]

    def block() -> Any:
        return {name: drawn(16, 16) for name in ("query", "key", "value")} | {
            "up": drawn(16, 32),
            "down": drawn(32, 16),
        }

    networks = {
        "perceptron": (perceptron, {"first": drawn(192, 20), "last": drawn(20, 4)}, (32, 8, 8, 3)),
        "convolutions": (
            convolutions,
            {"one": drawn(3, 3, 3, 8), "two": drawn(3, 3, 8, 8), "last": drawn(128, 4)},
            (32, 8, 8, 3),
        ),
        "transformer": (transformer, {"blocks": [block() for _ in range(4)], "last": drawn(16, 4)}, (32, 6, 16)),
    }
    apply, parameters, shape = networks[kind]
    return ish.oracle(apply, (random.normal(size=shape), random.integers(0, 4, 32)), parameters=parameters)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing("jax")), reason="JAX is not installed")
@pytest.mark.parametrize("kind", ["perceptron", "convolutions", "transformer"])
def test_jax_costs_what_was_planned(kind: str, counting: Counting) -> None:
    found = factor(counting(jax_oracle(kind)))
    assert 1 / 1.5 <= found <= 1.5, f"{found:.2f} times what was planned"
