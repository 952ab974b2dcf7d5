"""Which layers can be squared by a rule: tested on the model itself, never assumed.

A rule holds if the layer runs once, keeps the examples apart, and owns its parameters alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness_torch.autograd_uses import taken_again
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.half_precision import held, model_eps
from invariant_sharpness_torch.layer_rules import LayerRule, rule_for
from invariant_sharpness_torch.recording import Record, layer_cotangents, parameter_gradients, recording

TEST_EXAMPLES, _TEST_EXAMPLES_OF_LARGE = 8, 2
_LARGE = 10**7
"""A network with more parameters is tested on two examples: a pass through it costs more than what others could show beside them."""

_ROUNDING = 100.0
"""A gradient up to this many machine epsilons of the largest one of its layer counts as rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A module with a rule, and what it owns: attribute to name in the model."""

    module: nn.Module
    rule: LayerRule
    owned: Mapping[str, str]


def tested_head(model: nn.Module, batch: Any) -> Any:
    """Return the few examples on which the rules of a model's layers are tested."""
    large = sum(parameter.numel() for parameter in model.parameters()) > _LARGE
    return take(batch, 0, _TEST_EXAMPLES_OF_LARGE if large else TEST_EXAMPLES)


def trusted_layers(
    model: nn.Module, evaluate: Evaluate, parameters: Mapping[str, nn.Parameter], head: Any
) -> list[Layer]:
    """Return the layers whose rule gives, for each of a few examples alone, the square of autograd's gradient.

    Cost: one forward pass, and two backward passes for each example of ``head``; the verdicts are read at once.
    """
    candidates, size = list(_candidates(model, parameters)), batch_size(head)
    with recording([layer.module for layer in candidates]) as records:
        outputs, _ = evaluate(head)
    again = taken_again(outputs, parameters)
    plain = [(layer, record) for layer, record in zip(candidates, records, strict=True) if record.is_plain(size)]
    tests = [_Test(layer, record) for layer, record in plain if not again & set(layer.owned.values())]
    if not (tests and outputs.requires_grad):
        return []
    targets = [get_gradient_edge(test.record.outputs[0]) for test in tests]
    for example, alone in enumerate(one_by_one(outputs)):
        gradients = dict(zip(parameters, parameter_gradients(outputs, parameters, alone), strict=True))
        for test, delta in zip(tests, layer_cotangents(outputs, targets, alone), strict=True):
            test.add(example, delta, gradients)
    passed = torch.stack([test.passed(model_eps(model) ** 0.5).to(outputs.device) for test in tests]).tolist()
    return [test.layer for test, holds in zip(tests, passed, strict=True) if holds]


def _candidates(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[Layer]:
    """Modules with a rule, whose parameters nobody else owns."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    owners = [id(p) for m in model.modules() for p in m.parameters(recurse=False)]
    for module in model.modules():
        rule = rule_for(module)
        own = dict(module.named_parameters(recurse=False))
        if rule is not None and all(owners.count(id(p)) == 1 for p in own.values()):
            owned = {attribute: names[id(p)] for attribute, p in own.items() if id(p) in names}
            if owned:
                yield Layer(module, rule, owned)


class _Test:
    """Whether a layer keeps the examples apart, and its rule gives the square of each example's gradient."""

    def __init__(self, layer: Layer, record: Record) -> None:
        self.layer = layer
        self.record = record
        self._accumulator = layer.rule(layer.module, record.inputs[0].detach(), frozenset(layer.owned))
        self._mixed: list[torch.Tensor] = []
        self._expected: dict[str, torch.Tensor] = {}

    def add(self, example: int, delta: torch.Tensor, gradients: Mapping[str, torch.Tensor]) -> None:
        """Take the cotangents and gradients of one example."""
        delta = held(delta)
        self._mixed.append((torch.cat((delta[:example], delta[example + 1 :])) != 0).any())
        self._accumulator.add(torch.ones(len(delta)).to(delta), delta, delta)
        for attribute, name in self.layer.owned.items():
            square = held(gradients[name]).square()
            self._expected[attribute] = self._expected[attribute] + square if attribute in self._expected else square

    def passed(self, tolerance: float) -> torch.Tensor:
        """Return whether all parameters of the layer came out right: one flag, not read."""
        totals = self._accumulator.totals()
        mixed = torch.stack(self._mixed).any()
        if totals.keys() != self._expected.keys():
            return torch.zeros_like(mixed)
        close = agreement(totals, self._expected, tolerance)
        return torch.stack([~mixed, *(flag.to(mixed.device) for flag in close.values())]).all()


def one_by_one(outputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield generic cotangents of the outputs of each example alone."""
    cotangent = torch.cos(torch.arange(outputs.numel(), device=outputs.device) + 1.0).to(outputs)
    for example in range(len(outputs)):
        alone = torch.zeros_like(outputs)
        alone[example] = cotangent.reshape(outputs.shape)[example]
        yield alone


def agreement(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], tolerance: float
) -> dict[str, torch.Tensor]:
    """Return whether the squares of each parameter of a layer are as expected, up to the tolerance of a gradient: flags, not read."""
    # a gradient that cancels, such as that of the bias of attention's keys, is rounding beside those of the layer
    sizes = [_largest(squares) for squares in expected.values()]
    rounding = (_ROUNDING * tolerance**2) ** 2 * torch.stack([size.to(sizes[0].device) for size in sizes]).max()
    return {name: _close(found[name], squares, tolerance, rounding) for name, squares in expected.items()}


def _largest(values: torch.Tensor) -> torch.Tensor:
    return values.abs().max() if values.numel() else values.new_zeros(())


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float, rounding: torch.Tensor) -> torch.Tensor:
    largest = _largest(expected)
    return ((found - expected).abs() <= tolerance * (expected.abs() + largest) + rounding.to(largest)).all()
