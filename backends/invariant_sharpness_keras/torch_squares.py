r"""Squared derivatives of examples in Keras' layers on PyTorch: the rules of ``layer_squares``, after a test on the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import torch

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.adapters.engine import Arrays, Cotangents, Sums
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_keras.layer_sites import Site, possible_sites, recording
from invariant_sharpness_keras.layer_squares import RULES
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.trusted_rules import Array, disagreements, nudged
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.recording import parameter_gradients
from invariant_sharpness_torch.squares import ExampleSquares, terms

_TEST_EXAMPLES = 8


class SiteSquares(ExampleSquares):
    """Squared per-example derivatives of a Keras model.

    Parameters
    ----------
    model
        Its layers may have rules.
    parameters
        Those that are measured, by name, in the order of the model.
    """

    def __init__(self, model: keras.Model, parameters: Mapping[str, Any]) -> None:
        super().__init__(model, parameters)
        self._keras_model = model
        self._names = list(parameters)
        self._sites: list[Site] | None = None
        self._entries = 0

    def sums(
        self, evaluate: Evaluate, loss: LossTerms, names: frozenset[str], cotangents: Cotangents, batch: Any
    ) -> Sums:
        """As many examples at once as the memory limit allows: the rules make the gradients of all of them."""
        self._test(evaluate, take(batch, 0, _TEST_EXAMPLES))
        step = chunks_within_limit(self._entries * 4)
        parts: list[Sums] = []
        for start in range(0, batch_size(batch), step):
            own = _after(cotangents, sum(part.rows for part in parts))
            parts.append(super().sums(evaluate, loss, names, own, take(batch, start, start + step)))
        return _added(parts)

    def _add_by_rules(
        self, squares: Arrays, evaluate: Evaluate, loss: LossTerms, cotangents: Cotangents, batch: Any
    ) -> tuple[torch.Tensor, torch.Tensor, frozenset[str]]:
        with recording(self._sites or []) as records:
            outputs, targets = evaluate(batch)
        with torch.no_grad():
            opened = OpenedSites(self._sites or [], records, outputs)
        for signs, cotangent in terms(loss, cotangents, outputs, targets) if opened.sites else ():
            deltas = _deltas(outputs, opened.affine, cotangent)
            with torch.no_grad():
                opened.add(signs, deltas)
        found = {self._names[index]: total for index, total in opened.finished().items()}
        for name in found.keys() & squares.keys():
            squares[name] += found[name].detach()
        return outputs, targets, frozenset(found)

    def _test(self, evaluate: Evaluate, batch: Any) -> None:
        """Trust the rules that give what each example gives by itself, once, on a few examples."""
        if self._sites is not None:
            return
        sites = possible_sites(self._keras_model, RULES)
        with recording(sites) as records:
            outputs, _ = evaluate(batch)
        with torch.no_grad():
            opened = OpenedSites(sites, records, outputs)
            cotangent = torch.cos(torch.arange(outputs.numel(), device=outputs.device) + 1.0).to(outputs)
            cotangent = cotangent.reshape(outputs.shape)
            if opened.sites:
                opened.add(outputs.new_ones(len(outputs)), _deltas(outputs, opened.affine, cotangent))
            found = opened.finished()

        def one_by_one(batch: Any) -> list[Array]:
            return [array.cpu().numpy() for array in self._one_by_one(evaluate, batch, cotangent)]

        squares = {index: array.cpu().numpy() for index, array in found.items()}
        wrong = disagreements(squares, one_by_one(batch), lambda: one_by_one(nudged(batch)))
        self._sites = [site for site in opened.sites.values() if not wrong & set(site.variables.values())]
        self._entries = opened.entries

    def _one_by_one(self, evaluate: Evaluate, batch: Any, cotangent: torch.Tensor) -> list[torch.Tensor]:
        total = [torch.zeros_like(parameter.detach()) for parameter in self._parameters.values()]
        for row in range(batch_size(batch)):
            outputs, _ = evaluate(take(batch, row, row + 1))
            gradients = parameter_gradients(outputs, self._parameters, cotangent[row : row + 1])
            total = [a + b**2 for a, b in zip(total, gradients, strict=True)]
        return total


def _deltas(outputs: torch.Tensor, affine: Sequence[torch.Tensor], cotangent: torch.Tensor) -> list[torch.Tensor]:
    """What cotangents of the outputs become at the affine parts of layers: one backward pass; zero if the outputs depend on nothing."""
    if not outputs.requires_grad:
        return [torch.zeros_like(part) for part in affine]
    return list(
        torch.autograd.grad(outputs, affine, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True)
    )


def _after(cotangents: Cotangents, rows: int) -> Cotangents:
    """The same draws, for rows further on in the data."""
    draws = cotangents.draws
    return cotangents if draws is None else cotangents._replace(draws=draws._replace(start=draws.start + rows))


def _added(parts: Sequence[Sums]) -> Sums:
    total, *rest = parts
    for part in rest:
        arrays = {name: array + part.arrays[0][name] for name, array in total.arrays[0].items()}
        total = Sums(total.weight + part.weight, total.rows + part.rows, (arrays,))
    return total
