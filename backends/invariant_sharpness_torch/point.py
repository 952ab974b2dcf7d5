"""A PyTorch module with its loss at one parameter point: sums over a batch by reverse-over-reverse differentiation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.engine import Arrays, Cotangents, CotangentsOf, Sums
from invariant_sharpness.adapters.hessian_passes import SumsOfProducts
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import OutputForm
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.graph_forms import output_form
from invariant_sharpness_torch.half_precision import held
from invariant_sharpness_torch.node_curvature import NodeCurvature
from invariant_sharpness_torch.products import (
    Tensors,
    block_product,
    gauss_newton_product,
    gradients,
    hessian_operator,
    hessian_products,
    jacobian_product,
    residual_products,
)
from invariant_sharpness_torch.residuals import LayerResiduals
from invariant_sharpness_torch.squares import ExampleSquares


class TorchPoint:
    """A module with its loss at the parameters that it holds; every method is a sum over the examples of a batch.

    Parameters
    ----------
    evaluate
        From a batch to outputs, in accumulation dtype, and targets.
    parameters
        Those that are measured, by name.
    loss
        The loss of outputs and targets.
    squares
        Squared derivatives of examples.
    residuals
        What the residual part of the Hessian is made of.
    nodes
        The same, by curvature propagation.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        parameters: Mapping[str, nn.Parameter],
        loss: LossTerms,
        squares: ExampleSquares,
        residuals: LayerResiduals,
        nodes: NodeCurvature,
    ) -> None:
        self._evaluate = evaluate
        self._parameters = parameters
        self._loss = loss
        self._squares = squares
        self._residuals = residuals
        self._nodes = nodes

    def close(self) -> None:
        """Refuse all further questions: the module holds other parameters from now on."""
        self._evaluate = closed

    def evaluate(self, batch: Any, /) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return self._evaluate(batch)

    def losses(self, batch: Any, /) -> Sums:
        with torch.no_grad():
            return self._summed(batch)[1]

    def row_losses(self, batch: Any, /) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            losses, _ = self._loss.values(*self._evaluate(batch))
        return on_host(losses)

    def gradient(self, batch: Any, /) -> Sums:
        total, sums = self._summed(batch)
        return sums._replace(arrays=(self._arrays(gradients(total, self._sources)),))

    def hessian_products(self, vectors: Sequence[Arrays], batch: Any, /) -> Sums:
        total, sums = self._summed(batch)
        products = hessian_products(total, self._sources, [self._along(vector) for vector in vectors])
        return sums._replace(arrays=tuple(map(self._arrays, products)))

    def hessian_operator(self, batch: Any, /) -> SumsOfProducts:
        total, sums = self._summed(batch)
        multiply = hessian_operator(total, self._sources)

        def products(vectors: Sequence[Arrays]) -> Sums:
            found = multiply([self._along(vector) for vector in vectors])
            return sums._replace(arrays=tuple(map(self._arrays, found)))

        return products

    def gauss_newton_product(self, vector: Arrays, batch: Any, /) -> Sums:
        outputs, targets = self._evaluate(batch)
        product, weights = gauss_newton_product(outputs, targets, self._loss, self._sources, self._along(vector))
        return Sums(weights.sum(), len(weights), (self._arrays(product),))

    def residual_products(self, vectors: Sequence[Arrays], names: frozenset[str], batch: Any, /) -> Sums:
        outputs, targets = self._evaluate(batch)
        sources = {name: parameter for name, parameter in self._parameters.items() if name in names}
        along = [[vector[name].to(parameter.dtype) for name, parameter in sources.items()] for vector in vectors]
        products, weights = residual_products(outputs, targets, self._loss, list(sources.values()), along)
        arrays = tuple(_held(dict(zip(sources, product, strict=True))) for product in products)
        return Sums(weights.sum(), len(weights), arrays)

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Any, /) -> Sums:
        return self._squares.sums(self._evaluate, self._loss, names, cotangents, batch)

    def squared_one_by_one(self, batch: Any, /) -> frozenset[str]:
        return self._squares.one_by_one(self._evaluate, batch)

    def layer_moments(self, batch: Any, /) -> LayerMoments:
        return self._residuals.moments(self._evaluate, self._loss, batch)

    def residual_squares(self, perturbations: Perturbations, batch: Any, /) -> Sums:
        return self._residuals.sums(self._evaluate, self._loss, perturbations, batch)

    def node_counts(self, batch: Any, /) -> Mapping[str, int]:
        return self._nodes.counts(self._evaluate, batch)

    def node_squares(self, names: frozenset[str], draws: Draws, batch: Any, /) -> Sums:
        return self._nodes.sums(self._evaluate, self._loss, names, draws, batch)

    def slopes(self, vector: Arrays, batch: Any, /) -> Sums:
        r""":math:`\sum_r w_r (u \cdot \nabla \ell_r)^2`."""
        losses, weights = self._loss.values(*self._evaluate(batch))
        slopes = jacobian_product(losses, self._sources, self._along(vector))
        return Sums(weights.sum(), len(weights), value=(weights * slopes**2).sum())

    def pushforward(self, vector: Arrays, batch: Any, /) -> torch.Tensor:
        outputs, _ = self._evaluate(batch)
        return jacobian_product(outputs, self._sources, self._along(vector))

    def pullback(self, cotangents: CotangentRows, batch: Any, /) -> Arrays:
        outputs, _ = self._evaluate(batch)
        weighted = outputs * torch.as_tensor(cotangents.next_like(tuple(outputs.shape))).to(outputs)
        return self._arrays(gradients(weighted.sum(), self._sources))

    def output_curvature(self, direction: Arrays, cotangents: CotangentsOf, batch: Any, /) -> tuple[Arrays, Arrays]:
        outputs, _ = self._evaluate(batch)
        value = (outputs * torch.as_tensor(cotangents(tuple(outputs.shape))).to(outputs)).sum()
        sources, form = {n: p for n, p in self._parameters.items() if n in direction}, self._form(outputs)
        curved = sources.keys() & (form.curved | form.unknown)
        first = gradients(value, list(sources.values()), create_graph=bool(curved))
        slopes = dict(zip(sources, first, strict=True))
        second = {
            name: block_product(slopes[name], direction[name].to(p.dtype), p) if name in curved else torch.zeros_like(p)
            for name, p in sources.items()
        }
        return _held(slopes), _held(second)

    def output_form(self, batch: Any, /) -> OutputForm:
        return self._form(self._evaluate(batch)[0])

    def _form(self, outputs: torch.Tensor) -> OutputForm:
        return output_form(outputs, self._parameters)

    def _summed(self, batch: Any) -> tuple[torch.Tensor, Sums]:
        """The sum of the weighted losses with its graph, and the sums without."""
        losses, weights = self._loss.values(*self._evaluate(batch))
        total = (losses * weights).sum()
        return total, Sums(weights.sum(), len(weights), value=total.detach())

    @property
    def _sources(self) -> list[nn.Parameter]:
        return list(self._parameters.values())

    def _along(self, vector: Arrays) -> Tensors:
        """The direction, rounded to what the model computes with."""
        return [vector[name].to(parameter.dtype) for name, parameter in self._parameters.items()]

    def _arrays(self, tensors: Iterable[torch.Tensor]) -> Arrays:
        return _held(dict(zip(self._parameters, tensors, strict=True)))


def on_host(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return the numbers of a tensor in float64; waits for the device."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _held(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """The tensors without their graphs, in accumulation dtype."""
    return {name: held(tensor.detach()) for name, tensor in tensors.items()}


def closed(_batch: Any) -> NoReturn:
    """Take the place of what evaluates a model, once the model holds other parameters."""
    msg = "this point is closed: the model holds other parameters; ask inside `with engine.at(parameters) as point:`"
    raise RuntimeError(msg)
