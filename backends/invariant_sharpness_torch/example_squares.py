r"""Sums over examples of squared Jacobian products, :math:`\sum_n s_n (J_n^T v_n)^2`, parameter by parameter.

For each term one backward pass carries the cotangents to the outputs of the layers; a layer's rule
(``layer_squares``) turns them, with the layer's inputs, into squared gradients of each example, without ever
holding those of all examples. A rule is trusted only after it has been tested on the model: the layer runs once,
its examples stay apart, and its gradients add up to what autograd says. All other parameters take the general
path: each example by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.prng import Draws
from invariant_sharpness_torch.forward import Forward
from invariant_sharpness_torch.losses import Term, TorchLoss
from invariant_sharpness_torch.precision import held
from invariant_sharpness_torch.recording import Record, layer_cotangents, parameter_gradients, recording
from invariant_sharpness_torch.trusted_layers import Layer, trusted_layers

Terms = Callable[[torch.Tensor, torch.Tensor, int], Iterator[Term]]
"""From outputs, targets and the number of examples before them in the batch to the terms of a sum of squares."""


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
        self._trusted: list[Layer] | None = None

    def of_curvature(self, batch: Any, loss: TorchLoss, names: frozenset[str]) -> tuple[list[torch.Tensor], float]:
        """The sum over a batch of the Gauss-Newton diagonal's terms, and of the weights; zero for other names."""
        return self._squares(batch, loss, lambda z, y, _: loss.curvature_terms(z, y), names)

    def of_samples(
        self, batch: Any, loss: TorchLoss, names: frozenset[str], draws: Draws
    ) -> tuple[list[torch.Tensor], float, int]:
        """The sum over a batch of the squares of random terms, and of the weights, and the number of rows."""
        outputs, targets = self._forward(self._model, take(batch, 0, 1))
        rows = loss.values(outputs.detach(), targets)[1].numel()

        def terms(outputs: torch.Tensor, targets: torch.Tensor, before: int) -> Iterator[Term]:
            return loss.sampled_terms(outputs, targets, draws._replace(start=draws.start + before * rows))

        sums, weight = self._squares(batch, loss, terms, names)
        return sums, weight, rows * batch_size(batch)

    def of_gradients(self, batch: Any, loss: TorchLoss) -> tuple[list[torch.Tensor], float]:
        """The sum over a batch of the squared gradients of each loss, and of the weights."""
        return self._squares(batch, loss, lambda z, y, _: loss.gradient_terms(z, y), frozenset(self._parameters))

    def _squares(
        self, batch: Any, loss: TorchLoss, terms: Terms, names: frozenset[str]
    ) -> tuple[list[torch.Tensor], float]:
        sums = {name: torch.zeros_like(held(p.detach())) for name, p in self._parameters.items()}
        layers = [layer for layer in self._layers(batch) if names & set(layer.owned.values())]
        with recording([layer.module for layer in layers]) as records:
            outputs, targets = self._forward(self._model, batch)
        size = batch_size(batch)
        plain = {layer: record for layer, record in zip(layers, records, strict=True) if record.is_plain(size)}
        self._add_layers(sums, plain, outputs, terms(outputs.detach(), targets, 0), names)
        covered = {name for layer in plain for name in layer.owned.values()}
        if names - covered:
            self._add_one_by_one(sums, batch, terms, frozenset(names - covered))
        _, weights = loss.values(outputs.detach(), targets)
        return list(sums.values()), float(weights.sum())

    def _add_layers(
        self,
        sums: dict[str, torch.Tensor],
        layers: Mapping[Layer, Record],
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
            deltas = layer_cotangents(outputs, list(layers.values()), cotangent)
            for accumulator, delta in zip(accumulators, deltas, strict=True):
                accumulator.add(signs, held(delta))
        for layer, accumulator in zip(layers, accumulators, strict=True):
            for attribute, total in accumulator.totals().items():
                sums[layer.owned[attribute]] += total

    def _add_one_by_one(self, sums: dict[str, torch.Tensor], batch: Any, terms: Terms, names: frozenset[str]) -> None:
        """The general path: a forward pass for each example, and a backward pass for each of its terms."""
        parameters = {name: p for name, p in self._parameters.items() if name in names}
        for example in range(batch_size(batch)):
            outputs, targets = self._forward(self._model, take(batch, example, example + 1))
            for signs, cotangent in terms(outputs.detach(), targets, example):
                for name, gradient in zip(parameters, parameter_gradients(outputs, parameters, cotangent), strict=True):
                    sums[name] += signs[0] * held(gradient) ** 2

    def _layers(self, batch: Any) -> list[Layer]:
        """The layers whose rules hold for this model; tested once."""
        if self._trusted is None:
            self._trusted = trusted_layers(self._model, self._forward, self._parameters, batch)
        return self._trusted


def _wanted(layer: Layer, names: frozenset[str]) -> frozenset[str]:
    return frozenset(attribute for attribute, name in layer.owned.items() if name in names)
