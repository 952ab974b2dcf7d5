r"""Sums over examples of squared Jacobian products, :math:`\sum_n s_n (J_n^T v_n)^2`, parameter by parameter.

For each term one backward pass carries the cotangents to the outputs of the layers; a layer's rule
(``layer_squares``) turns them, with the layer's inputs, into squared gradients of each example, without ever
holding those of all examples. A rule is trusted only after it has been tested on the model: the layer runs once,
its examples stay apart, and its gradients add up to what autograd says. All other parameters take the general
path: each example by itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from invariant_sharpness_torch.forward import Forward, batch_size, take
from invariant_sharpness_torch.layer_squares import LayerRule, rule_for
from invariant_sharpness_torch.losses import Term, TorchLoss

_TEST_EXAMPLES = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A module with a rule, and what it owns: attribute to name in the model."""

    module: nn.Module
    rule: LayerRule
    owned: Mapping[str, str]


@dataclass(slots=True)
class _Record:
    """Inputs and outputs of a layer in one forward pass."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)

    def is_plain(self, examples: int) -> bool:
        """Whether the layer ran once, on one tensor with a row per example, and its output is differentiated."""
        return (
            len(self.inputs) == len(self.outputs) == 1
            and len(self.inputs[0]) == len(self.outputs[0]) == examples
            and self.outputs[0].requires_grad
        )


class ExampleSquares:
    """Squared per-example derivatives of one model.

    Parameters
    ----------
    model, forward
        As in :class:`invariant_sharpness_torch.oracle.TorchOracle`.
    parameters
        Those that are measured, by name.
    """

    def __init__(self, model: nn.Module, forward: Forward, parameters: Mapping[str, nn.Parameter]) -> None:
        self._model = model
        self._forward = forward
        self._parameters = parameters
        self._trusted: list[_Layer] | None = None

    def of_curvature(self, batch: Any, loss: TorchLoss, names: frozenset[str]) -> tuple[list[torch.Tensor], float]:
        """The sum over a batch of the Gauss-Newton diagonal's terms, and of the weights; zero for other names."""

        def terms(outputs: torch.Tensor, targets: torch.Tensor) -> Iterator[Term]:
            return loss.curvature_terms(outputs, targets)

        return self._squares(batch, loss, terms, names)

    def of_gradients(self, batch: Any, loss: TorchLoss) -> tuple[list[torch.Tensor], float]:
        """The sum over a batch of the squared gradients of each loss, and of the weights."""

        def terms(outputs: torch.Tensor, targets: torch.Tensor) -> Iterator[Term]:
            return loss.gradient_terms(outputs, targets)

        return self._squares(batch, loss, terms, frozenset(self._parameters))

    def _squares(
        self, batch: Any, loss: TorchLoss, terms: Any, names: frozenset[str]
    ) -> tuple[list[torch.Tensor], float]:
        sums = {name: torch.zeros_like(p, requires_grad=False) for name, p in self._parameters.items()}
        layers = [layer for layer in self._layers(batch) if names & set(layer.owned.values())]
        with _recording(layers) as records:
            outputs, targets = self._forward(self._model, batch)
        size = batch_size(batch)
        plain = {layer: record for layer, record in zip(layers, records, strict=True) if record.is_plain(size)}
        self._add_layers(sums, plain, outputs, terms(outputs.detach(), targets), names)
        covered = {name for layer in plain for name in layer.owned.values()}
        if names - covered:
            self._add_one_by_one(sums, batch, terms, frozenset(names - covered))
        _, weights = loss.values(outputs.detach(), targets)
        return list(sums.values()), float(weights.sum())

    def _add_layers(
        self,
        sums: dict[str, torch.Tensor],
        layers: Mapping[_Layer, _Record],
        outputs: torch.Tensor,
        terms: Iterator[Term],
        names: frozenset[str],
    ) -> None:
        if not (layers and outputs.requires_grad):
            return
        accumulators = [
            layer.rule(layer.module, record.inputs[0].detach(), _wanted(layer, names))
            for layer, record in layers.items()
        ]
        for signs, cotangent in terms:
            deltas = _cotangents(outputs, list(layers.values()), cotangent)
            for accumulator, delta in zip(accumulators, deltas, strict=True):
                accumulator.add(signs, delta)
        for layer, accumulator in zip(layers, accumulators, strict=True):
            for attribute, total in accumulator.totals().items():
                sums[layer.owned[attribute]] += total

    def _add_one_by_one(self, sums: dict[str, torch.Tensor], batch: Any, terms: Any, names: frozenset[str]) -> None:
        """The general path: a forward pass for each example, and a backward pass for each of its terms."""
        parameters = {name: p for name, p in self._parameters.items() if name in names}
        for example in range(batch_size(batch)):
            outputs, targets = self._forward(self._model, take(batch, example, example + 1))
            for signs, cotangent in terms(outputs.detach(), targets):
                for name, gradient in zip(parameters, _gradients(outputs, parameters, cotangent), strict=True):
                    sums[name] += signs[0] * gradient**2

    def _layers(self, batch: Any) -> list[_Layer]:
        """The layers whose rules hold for this model; tested once, on a few examples."""
        if self._trusted is None:
            self._trusted = self._tested(list(self._candidates()), take(batch, 0, _TEST_EXAMPLES))
        return self._trusted

    def _candidates(self) -> Iterator[_Layer]:
        """Modules with a rule, whose parameters nobody else owns."""
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        owners = [id(p) for m in self._model.modules() for p in m.parameters(recurse=False)]
        for module in self._model.modules():
            rule = rule_for(module)
            own = dict(module.named_parameters(recurse=False))
            if rule is not None and all(owners.count(id(p)) == 1 for p in own.values()):
                owned = {attribute: names[id(p)] for attribute, p in own.items() if id(p) in names}
                if owned:
                    yield _Layer(module, rule, owned)

    def _tested(self, candidates: list[_Layer], head: Any) -> list[_Layer]:
        """Those whose rule gives, for each example alone, the square of autograd's gradient."""
        size = batch_size(head)
        with _recording(candidates) as records:
            outputs, _ = self._forward(self._model, head)
        plain = [(layer, record) for layer, record in zip(candidates, records, strict=True) if record.is_plain(size)]
        tests = [_Test(layer, record) for layer, record in plain]
        if not (tests and outputs.requires_grad):
            return []
        cotangent = torch.cos(torch.arange(outputs.numel(), device=outputs.device) + 1.0).to(outputs)
        for example in range(size):
            alone = torch.zeros_like(outputs)
            alone[example] = cotangent.reshape(outputs.shape)[example]
            gradients = dict(zip(self._parameters, _gradients(outputs, self._parameters, alone), strict=True))
            for test, delta in zip(tests, _cotangents(outputs, [test.record for test in tests], alone), strict=True):
                test.add(example, delta, gradients)
        return [test.layer for test in tests if test.passed()]


class _Test:
    """Whether a layer keeps the examples apart, and its rule gives the square of each example's gradient."""

    def __init__(self, layer: _Layer, record: _Record) -> None:
        self.layer = layer
        self.record = record
        self._accumulator = layer.rule(layer.module, record.inputs[0].detach(), frozenset(layer.owned))
        self._apart = True
        self._expected: dict[str, torch.Tensor] = {}

    def add(self, example: int, delta: torch.Tensor, gradients: Mapping[str, torch.Tensor]) -> None:
        """Take the cotangents and gradients of one example."""
        others = torch.arange(len(delta), device=delta.device) != example
        self._apart = self._apart and not bool((delta[others] != 0).any())
        self._accumulator.add(torch.ones(len(delta)).to(delta), delta)
        for attribute, name in self.layer.owned.items():
            square = gradients[name].square()
            self._expected[attribute] = self._expected[attribute] + square if attribute in self._expected else square

    def passed(self) -> bool:
        """Whether all parameters of the layer came out right."""
        totals = self._accumulator.totals()
        return (
            self._apart
            and totals.keys() == self._expected.keys()
            and all(_close(totals[attribute], expected) for attribute, expected in self._expected.items())
        )


@contextmanager
def _recording(layers: list[_Layer]) -> Generator[list[_Record]]:
    """Record inputs and outputs of the layers while the block runs.

    The model goes on with a copy of each output, since the next layer may change it in place.
    """
    records = [_Record() for _ in layers]
    handles = []
    try:
        for layer, record in zip(layers, records, strict=True):
            handles.append(layer.module.register_forward_hook(_recorder(record), with_kwargs=True))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _recorder(record: _Record) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        record.inputs.extend([*inputs, *keywords.values()])
        record.outputs.append(output)
        return output.clone()

    return hook


def _cotangents(outputs: torch.Tensor, records: list[_Record], cotangent: torch.Tensor) -> list[torch.Tensor]:
    targets = [record.outputs[0] for record in records]
    return list(
        torch.autograd.grad(outputs, targets, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True)
    )


def _gradients(
    outputs: torch.Tensor, parameters: Mapping[str, nn.Parameter], cotangent: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    if not outputs.requires_grad:
        return tuple(torch.zeros_like(p) for p in parameters.values())
    return torch.autograd.grad(
        outputs, list(parameters.values()), cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _wanted(layer: _Layer, names: frozenset[str]) -> frozenset[str]:
    return frozenset(attribute for attribute, name in layer.owned.items() if name in names)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = torch.finfo(a.dtype).eps ** 0.5
    return bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max())))
