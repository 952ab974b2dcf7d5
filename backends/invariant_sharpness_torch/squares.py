r"""Sums over examples of squared Jacobian products, :math:`\sum_n s_n (J_n^T v_n)^2`, parameter by parameter.

For each term one backward pass carries the cotangents to the outputs of the layers; a layer's rule (``layer_rules``) turns them, with
the layer's inputs, into squared gradients of each example, without ever holding those of all examples. Layers are modules, or operations that take
parameters which no such module owns. A rule is trusted only after it has been tested on the model. All other parameters take the general path: each
example by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.adapters.engine import Arrays, Cotangents, Sums
from invariant_sharpness.adapters.loss_terms import LossTerms, cotangent_terms
from invariant_sharpness.losses.positions import Term
from invariant_sharpness_torch.autograd_uses import taken_again
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.graph_layers import Trust, graph_layers
from invariant_sharpness_torch.half_precision import held, model_eps
from invariant_sharpness_torch.passed_layers import ModuleLayer, PassedLayer
from invariant_sharpness_torch.recording import layer_cotangents, parameter_gradients, recording
from invariant_sharpness_torch.shared_parameters import SharedParameter, shared_parameters, trusted_shared
from invariant_sharpness_torch.trusted_layers import Layer, tested_head, trusted_layers
from invariant_sharpness_torch.trusted_operations import trusted_operations


class ExampleSquares:
    """Squared per-example derivatives of one model.

    Parameters
    ----------
    model
        Its layers may have rules.
    parameters
        Those that are measured, by name.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        self._model = model
        self._parameters = parameters
        self._trusted: Tested | None = None

    def sums(
        self, evaluate: Evaluate, loss: LossTerms, names: frozenset[str], cotangents: Cotangents, batch: Any
    ) -> Sums:
        """Sum the squares over a batch for the named parameters; zero where nothing depends on them."""
        squares = {name: torch.zeros_like(held(p.detach())) for name, p in self._parameters.items() if name in names}
        outputs, targets, covered = self._add_by_rules(squares, evaluate, loss, cotangents, batch)
        others = {name: p for name, p in self._parameters.items() if name in names - covered}
        if others:
            _add_one_by_one(squares, others, evaluate, loss, cotangents, batch)
        _, weights = loss.values(outputs.detach(), targets)
        return Sums(weights.sum(), len(weights), (squares,))

    def _add_by_rules(
        self, squares: Arrays, evaluate: Evaluate, loss: LossTerms, cotangents: Cotangents, batch: Any
    ) -> tuple[torch.Tensor, torch.Tensor, frozenset[str]]:
        """Add what the rules of layers give; return outputs, targets, and the names of the parameters that are done."""
        opened = self.opened(evaluate, batch, frozenset(squares))
        shared = self._shared(opened, batch, frozenset(squares))
        _add_layers(squares, opened, shared, terms(loss, cotangents, opened.outputs, opened.targets))
        return opened.outputs, opened.targets, opened.owned | {parameter.name for parameter in shared}

    def one_by_one(self, evaluate: Evaluate, batch: Any) -> frozenset[str]:
        """Return the parameters that take the general path in a batch. Cost: a forward pass."""
        names = frozenset(self._parameters)
        opened = self.opened(evaluate, batch, names)
        return names - opened.owned - {parameter.name for parameter in self._shared(opened, batch, names)}

    def opened(self, evaluate: Evaluate, batch: Any, names: frozenset[str]) -> Opened:
        """Run the model on a batch, and return it with those layers that own named parameters."""
        modules, others, operations, _ = self._tested(evaluate, batch)
        layers = [layer for layer in modules if names & set(layer.owned.values())]
        with recording([layer.module for layer in layers]) as records:
            outputs, targets = evaluate(batch)
        size, again = batch_size(batch), taken_again(outputs, self._parameters)
        plain = [
            ModuleLayer(layer, record)
            for layer, record in zip(layers, records, strict=True)
            if record.is_plain(size) and not again & set(layer.owned.values())
        ]
        return Opened(outputs, targets, [*plain, *graph_layers(outputs, others, operations, names, size)])

    def _shared(self, opened: Opened, batch: Any, names: frozenset[str]) -> list[SharedParameter]:
        """Those of the named parameters that several operations take, where the test of a batch has trusted them."""
        assert self._trusted is not None
        _, others, _, shared = self._trusted
        return shared_parameters(opened.outputs, others, shared, names, batch_size(batch))

    def _tested(self, evaluate: Evaluate, batch: Any) -> Tested:
        """What can be squared by layers in this model; tested once."""
        if self._trusted is None:
            head = tested_head(self._model, batch)
            modules = trusted_layers(self._model, evaluate, self._parameters, head)
            covered = {name for layer in modules for name in layer.owned.values()}
            others = {name: p for name, p in self._parameters.items() if name not in covered}
            tolerance = model_eps(self._model) ** 0.5
            operations = trusted_operations(evaluate, others, head, tolerance)
            shared = trusted_shared(evaluate, others, others.keys() - operations.keys(), head, tolerance)
            self._trusted = Tested(modules, others, operations, shared)
        return self._trusted


class Tested(NamedTuple):
    """The modules whose rules hold, the parameters that these do not own, and which of them enter an operation that can be squared, or several whose gradients can be added."""

    modules: list[Layer]
    others: dict[str, nn.Parameter]
    operations: dict[str, Trust]
    shared: dict[str, Trust]


class Opened(NamedTuple):
    """A batch in the model, with what its layers took and gave."""

    outputs: torch.Tensor
    targets: torch.Tensor
    layers: Sequence[PassedLayer]

    @property
    def owned(self) -> frozenset[str]:
        """The parameters of these layers."""
        return frozenset(name for layer in self.layers for name in layer.owned.values())


def _add_layers(squares: Arrays, opened: Opened, shared: Sequence[SharedParameter], terms: Iterator[Term]) -> None:
    """All layers at once, and what several operations take: a backward pass for each term."""
    outputs, layers = opened.outputs, opened.layers
    targets = [layer.output for layer in layers] + [output for parameter in shared for output in parameter.outputs]
    if not (targets and outputs.requires_grad):
        return
    accumulators = [
        layer.accumulator(frozenset(attribute for attribute, name in layer.owned.items() if name in squares))
        for layer in layers
    ]
    for signs, cotangent in terms:
        deltas = layer_cotangents(outputs, targets, cotangent)
        of_layers, of_shared = deltas[: len(layers)], iter(deltas[len(layers) :])
        for accumulator, delta in zip(accumulators, of_layers, strict=True):
            cotangents = held(delta)
            accumulator.add(signs, cotangents, cotangents)
        for parameter in shared:
            parameter.add_squares(squares[parameter.name], signs, list(islice(of_shared, len(parameter.outputs))))
    for layer, accumulator in zip(layers, accumulators, strict=True):
        for attribute, total in accumulator.totals().items():
            squares[layer.owned[attribute]] += total


def _add_one_by_one(
    squares: Arrays,
    parameters: Mapping[str, nn.Parameter],
    evaluate: Evaluate,
    loss: LossTerms,
    cotangents: Cotangents,
    batch: Any,
) -> None:
    """The general path: a forward pass for each example, and a backward pass for each of its terms."""
    for example in range(batch_size(batch)):
        outputs, targets = evaluate(take(batch, example, example + 1))
        own = _of_example(cotangents, example, loss.row_shape(outputs, targets)[0])
        for signs, cotangent in terms(loss, own, outputs, targets):
            for name, gradient in zip(parameters, parameter_gradients(outputs, parameters, cotangent), strict=True):
                squares[name] += signs[0] * held(gradient) ** 2


def _of_example(cotangents: Cotangents, example: int, rows: int) -> Cotangents:
    """The same random signs as in the batch, in which an example has so many rows."""
    draws = cotangents.draws
    return (
        cotangents if draws is None else cotangents._replace(draws=draws._replace(start=draws.start + example * rows))
    )


def terms(loss: LossTerms, cotangents: Cotangents, outputs: torch.Tensor, targets: torch.Tensor) -> Iterator[Term]:
    """Yield the terms that are squared, with factors made where the outputs are."""
    constant = outputs.detach()
    return cotangent_terms(loss, cotangents, constant, targets, lambda signs: torch.as_tensor(signs).to(constant))
