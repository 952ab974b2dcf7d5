"""In which parameters outputs are curved by the graph of the network, against dense second derivatives, and what the affine test makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.attention import SDPBackend, sdpa_kernel

import invariant_sharpness as ish
from invariant_sharpness.coordinates.forwarding import Forwarding
from invariant_sharpness.estimators.affine_groups import exact_diagonal
from invariant_sharpness.estimators.affine_test import affine_test, exact_groups
from invariant_sharpness.protocol import OutputForm

WIDTH, CLASSES, EXAMPLES = 4, 3, 6


class Linear(torch.autograd.Function):
    """Twice its argument, in an operation of which nothing is known."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(_ctx: Any, *cotangents: torch.Tensor) -> torch.Tensor:
        return 2 * cotangents[0]


class Square(torch.autograd.Function):
    """The square of its argument, likewise."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> torch.Tensor:
        return 2 * cotangents[0] * ctx.saved_tensors[0]


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(WIDTH, 5), nn.Linear(5, CLASSES), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(x)))


class Gated(Between):
    """The gate has its own gate, so that it enters twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.last(hidden.relu() * hidden)


class Tied(nn.Module):
    """A table of tokens that is also the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.between = nn.Parameter(torch.randn(CLASSES, WIDTH)), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x[:, 0] > 0).long() + (x[:, 1] > 0)
        return self.between(nn.functional.embedding(tokens, self.table)) @ self.table.T


class Normed(nn.Module):
    """A group norm, whose gain and shift are affine, between convolutions with a batch norm at rest."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, 2, 2), nn.GroupNorm(1, 2)
        self.second, self.rest, self.head = nn.Conv1d(2, 2, 2), nn.BatchNorm1d(2), nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rest(self.second(self.norm(self.first(x[:, None])))).relu().flatten(1))


class Attention(nn.Module):
    """Two blocks of torch's encoder, with packed projections, on rows of one number."""

    def __init__(self, blocks: int = 1) -> None:
        super().__init__()
        layers = (nn.TransformerEncoderLayer(2, 1, 2, 0.0, "gelu", batch_first=True) for _ in range(blocks))
        self.blocks, self.embed, self.head = nn.Sequential(*layers), nn.Linear(1, 2), nn.Linear(2, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(x[..., None])).mean(1))


def first_power(x: torch.Tensor) -> torch.Tensor:
    """A curved operation by its name, and none by its numbers."""
    return x.pow(1.0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": lambda: Between(torch.relu),
    "softmax": lambda: Between(lambda x: x.softmax(1)),
    "quotient": lambda: Between(lambda x: x / (3 + x * x)),
    "unknown, linear": lambda: Between(Linear.apply),
    "unknown, square": lambda: Between(Square.apply),
    "first power": lambda: Between(first_power),
    "gated by itself": lambda: Gated(torch.relu),
    "tied": Tied,
    "norms": Normed,
    "attention": Attention,
}


def problem(kind: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return NETWORKS[kind]().double().eval(), torch.randn(EXAMPLES, WIDTH, dtype=torch.float64)


def oracle_of(model: nn.Module, x: torch.Tensor) -> Any:
    return ish.oracle(model, (x, torch.arange(len(x)) % CLASSES))


@contextmanager
def slow_path() -> Iterator[None]:
    """Encoder layers without their fused operation, which torch.func cannot see through."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def curved(model: nn.Module, x: torch.Tensor) -> set[str]:
    """The parameters in whose dense block of second derivatives of a combination of the outputs there is anything."""
    parameters, found = {name: p.detach() for name, p in model.named_parameters()}, set()
    for name, own in parameters.items():

        def combined(values: torch.Tensor, name: str = name) -> torch.Tensor:
            outputs = functional_call(model, {**parameters, name: values}, (x,))
            return (outputs * torch.cos(torch.arange(outputs.numel())).reshape(outputs.shape)).sum()

        with sdpa_kernel(SDPBackend.MATH), slow_path():
            if float(hessian(combined)(own).abs().max()) > 1e-12:
                found.add(name)
    return found


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if "unknown" not in kind])
def test_what_is_affine_by_form_has_no_second_derivative(kind: str) -> None:
    model, x = problem(kind)
    oracle, expected = oracle_of(model, x), curved(model, x)
    form = oracle.output_form(oracle.parameters)
    assert not form.unknown, f"nothing is known of {sorted(form.unknown)}"
    assert expected <= form.curved, f"affine by form, but curved: {sorted(expected - form.curved)}"
    if kind != "first power":
        assert form.curved == expected, f"curved by form, but affine: {sorted(form.curved - expected)}"


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_affine_test_finds_the_groups_without_second_derivatives(kind: str) -> None:
    model, x = problem(kind)
    oracle = oracle_of(model, x)
    # a custom function of torch has no batching rule, by which the dense derivatives are made
    expected = {"first.weight", "first.bias"} if kind == "unknown, square" else set()
    expected = expected if "unknown" in kind else curved(model, x)
    found = {group.name for group in oracle.groups} - exact_groups(oracle, affine_test(oracle).defects)
    assert found == expected


class Watched(Forwarding):
    """An oracle that remembers in which groups, and on how many examples, it differentiates its outputs twice."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.asked: list[tuple[frozenset[str], int]] = []

    @property
    def parameters(self) -> ish.ParameterVector:
        return self.base.parameters

    def block_curvature(
        self, parameters: Any, direction: Any, /, names: frozenset[str], examples: int, seed: int
    ) -> Any:
        form = self.base.output_form(parameters)
        self.asked.append((names & (form.curved | form.unknown), examples))
        return self.base.block_curvature(parameters, direction, names, examples, seed)


@pytest.mark.parametrize("blocks", [1, 4])
def test_three_groups_are_differentiated_twice_however_many_there_are(blocks: int) -> None:
    torch.manual_seed(0)
    watched = Watched(oracle_of(Attention(blocks).double().eval(), torch.randn(EXAMPLES, WIDTH, dtype=torch.float64)))
    found = affine_test(watched)
    assert [(len(names), examples) for names, examples in watched.asked] == [(3, 1), (0, 64)]
    assert exact_groups(watched, found.defects) == {
        "head.weight",
        "head.bias",
        f"blocks.{blocks - 1}.norm2.weight",
        f"blocks.{blocks - 1}.norm2.bias",
    }


class Traced(Watched):
    """An oracle whose form is that of all examples; it remembers all groups that it is asked for."""

    def block_curvature(
        self, parameters: Any, direction: Any, /, names: frozenset[str], examples: int, seed: int
    ) -> Any:
        self.asked.append((names, examples))
        return self.base.block_curvature(parameters, direction, names, examples, seed)

    def output_form(self, parameters: Any, /) -> OutputForm:
        return self.base.output_form(parameters)._replace(of_every_example=True)


@pytest.mark.parametrize("kind", ["attention", "unknown, square"])
def test_what_is_affine_in_the_programs_of_all_examples_is_not_tested(kind: str) -> None:
    base = oracle_of(*problem(kind))
    watched, form = Traced(base), base.output_form(base.parameters)
    found = affine_test(watched)
    tested = frozenset[str]().union(*(names for names, _ in watched.asked))
    assert tested <= form.curved | form.unknown, f"tested: {sorted(tested)}"
    assert form.unknown <= tested, f"tested: {sorted(tested)}"
    assert exact_groups(base, found.defects) == exact_groups(base, affine_test(base).defects)


def test_groups_that_are_curved_by_form_say_so() -> None:
    found = exact_diagonal(oracle_of(*problem("attention")))
    notes = {name: found.note(name) for name, defect in found.defects.items() if math.isinf(defect)}
    assert len(notes) > 3
    assert set(notes.values()) == {"the outputs are not affine in it, by the form of the network"}


def test_the_gauss_newton_matrix_is_not_tested() -> None:
    watched = Watched(oracle_of(*problem("attention")))
    found = exact_diagonal(ish.GaussNewton(watched))
    assert not watched.asked
    assert found.groups.keys() == {group.name for group in watched.groups}
