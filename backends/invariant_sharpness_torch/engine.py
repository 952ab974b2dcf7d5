"""A PyTorch module with a loss as an engine: sums over a batch by reverse-over-reverse differentiation."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, NoReturn

import array_api_compat.torch as xp
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness.adapters.batch_losses import of_whole_batches
from invariant_sharpness.adapters.data import batch_size, leaves
from invariant_sharpness.adapters.engine import Arrays, Cotangents, CotangentsOf, Sums
from invariant_sharpness.adapters.host_engine import EngineDefaults
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.adapters.whole_batches import Examples
from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup
from invariant_sharpness.protocol import EVERY_CAPABILITY, DoublePrecisionOracle, ResidualDiagonalOracle
from invariant_sharpness_torch import batches
from invariant_sharpness_torch.batches import Evaluate, Forward, byte_rows, evaluation, to_device
from invariant_sharpness_torch.changing_modules import check_rescaled_rows, check_steady
from invariant_sharpness_torch.footprint import Footprint, footprint
from invariant_sharpness_torch.half_precision import held, held_dtype, model_eps
from invariant_sharpness_torch.holding import check_differentiable, holding, loader_generators, random_state
from invariant_sharpness_torch.loss_parameters import check_loss_of_outputs
from invariant_sharpness_torch.losses import function_terms
from invariant_sharpness_torch.models import check_modules, in_precision, trainable_parameters
from invariant_sharpness_torch.products import (
    Tensors,
    block_product,
    gauss_newton_product,
    gradients,
    hessian_products,
    jacobian_product,
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
    """

    def __init__(
        self,
        evaluate: Evaluate,
        parameters: Mapping[str, nn.Parameter],
        loss: LossTerms,
        squares: ExampleSquares,
        residuals: LayerResiduals,
    ) -> None:
        self._evaluate = evaluate
        self._parameters = parameters
        self._loss = loss
        self._squares = squares
        self._residuals = residuals

    def close(self) -> None:
        """Refuse all further questions: the module holds other parameters from now on."""
        self._evaluate = _closed

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

    def gauss_newton_product(self, vector: Arrays, batch: Any, /) -> Sums:
        outputs, targets = self._evaluate(batch)
        product, weights = gauss_newton_product(outputs, targets, self._loss, self._sources, self._along(vector))
        return Sums(weights.sum(), len(weights), (self._arrays(product),))

    def squares(self, names: frozenset[str], cotangents: Cotangents, batch: Any, /) -> Sums:
        return self._squares.sums(self._evaluate, self._loss, names, cotangents, batch)

    def layer_moments(self, batch: Any, /) -> LayerMoments:
        layers = self._squares.layers(self._evaluate, batch)
        return self._residuals.moments(layers, self._evaluate, self._loss, batch)

    def residual_squares(self, perturbations: Perturbations, batch: Any, /) -> Sums:
        layers = self._squares.layers(self._evaluate, batch)
        return self._residuals.sums(layers, self._evaluate, self._loss, perturbations, batch)

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
        sources = {name: p for name, p in self._parameters.items() if name in direction}
        first = gradients(value, list(sources.values()), create_graph=True)
        slopes = dict(zip(sources, first, strict=True))
        second = {name: block_product(slopes[name], direction[name].to(p.dtype), p) for name, p in sources.items()}
        return _held(slopes), _held(second)

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


class TorchEngine(EngineDefaults):
    """A module and a loss.

    Parameters of half precision have vectors, sums and squares in float32; the model computes in half precision, forward and backward.

    Parameters
    ----------
    model
        Deterministic and example by example; it is bit-identical after every pass.
    forward
        ``(model, batch) -> (outputs, targets)``.
    parameters
        Those that are measured, by name; the model computes with them.
    groups
        Roles and axes of these parameters, in the order of the vectors.
    loss
        The loss of outputs and targets.
    examples
        Whether an example is a row of a batch, or a whole batch.
    originals
        The parameters of the user's model, where ``model`` is a copy of it.
    """

    name = "PyTorch"
    xp = xp
    offers = EVERY_CAPABILITY | {DoublePrecisionOracle, ResidualDiagonalOracle}

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        parameters: Mapping[str, nn.Parameter],
        groups: tuple[ParameterGroup, ...],
        loss: LossTerms,
        examples: Examples = "rows",
        originals: Sequence[tuple[str, nn.Parameter]] = (),
    ) -> None:
        self.model = model
        self.examples: Examples = examples
        self._originals = originals
        self.groups = groups
        self.loss = loss if examples == "rows" else of_whole_batches(loss, function_terms)
        self.reduction: Literal["mean", "sum"] = self.loss.reduction
        self._given = forward, loss
        self._evaluate = evaluation(model, forward if examples == "rows" else batches.of_whole_batches(forward))
        self._parameters = {group.name: parameters[group.name] for group in groups}
        self._squares = ExampleSquares(model, self._parameters)
        self._residuals = LayerResiduals(groups)
        self._footprint: Footprint | None = None

    @property
    def eps(self) -> float:
        return model_eps(self.model)

    @property
    def samples_outputs(self) -> bool:
        return self.loss.samples_outputs

    def in_double_precision(self) -> TorchEngine:
        """The engine of a copy of the model in double precision."""
        model = in_precision(self.model, "float64")
        forward, loss = self._given
        return TorchEngine(model, forward, trainable_parameters(model), self.groups, loss, self.examples)

    def parameters(self) -> Arrays:
        return {name: held(parameter.detach()) for name, parameter in self._parameters.items()}

    def from_numpy(self, arrays: HostArrays, /) -> Arrays:
        return {
            name: torch.as_tensor(np.array(arrays[name]), dtype=held_dtype(p.dtype), device=p.device)
            for name, p in self._parameters.items()
        }

    def to_numpy(self, arrays: Arrays, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: on_host(array).copy() for name, array in arrays.items()}

    def batch(self, given: Any, /) -> Any:
        return to_device(given, next(p for p in self.model.parameters() if p.is_floating_point()))

    def host_rows(self, batch: Any, /) -> Sequence[npt.NDArray[Any]]:
        return byte_rows(batch)

    def check_loss(self, outputs: torch.Tensor, targets: torch.Tensor, /) -> None:
        self.loss.check(outputs, targets)
        check_loss_of_outputs(self.loss, outputs, targets, self._parameters, self._originals)

    def random_state(self, seed: int, source: Any, /) -> AbstractContextManager[None]:
        check_differentiable()
        return random_state(seed, loader_generators(source))

    def examples_at_once(self, batch: Any, /) -> int:
        """Return how many examples fit into the memory limit, by what a few of the first batch that is asked for take."""
        if self._footprint is None:
            self._footprint = footprint(self.model, self._evaluate, batch)
        return min(self._footprint.examples(), batch_size(batch))

    @contextmanager
    def at(self, parameters: Arrays, /) -> Generator[TorchPoint]:
        check_modules(self.model, self.examples)
        check_steady(self.model)
        with holding(self.model, self._parameters, parameters):
            check_rescaled_rows(self.model)
            point = TorchPoint(self._evaluate, self._parameters, self.loss, self._squares, self._residuals)
            try:
                yield point
            finally:
                point.close()

    def add(self, total: Arrays, part: Arrays, /) -> Arrays:
        return {name: array + part[name] for name, array in total.items()}

    def divide(self, total: Arrays, weight: float, /) -> Arrays:
        return {name: array / weight for name, array in total.items()}

    def finite(self, arrays: Arrays, /) -> torch.Tensor:
        """Return one flag for each array, on the device of the first: a model's parameters may lie on several."""
        flags = [torch.isfinite(array).all() for array in arrays.values()]
        return torch.stack([flag.to(flags[0].device) for flag in flags])

    def read(self, tree: Any, /) -> Any:
        """Transfer all tensors in one piece."""
        tensors = leaves(tree)
        if not tensors:
            return tree
        joined = torch.cat([tensor.to(tensors[0].device).reshape(-1) for tensor in tensors])
        return _split(tree, iter(np.split(on_host(joined), np.cumsum([tensor.numel() for tensor in tensors])[:-1])))


def on_host(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return the numbers of a tensor in float64; waits for the device."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _split(tree: Any, parts: Any) -> Any:
    """The nest with its tensors replaced by the next parts."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([_split(branch, parts) for branch in tree])
    part = next(parts)
    return part.reshape(tree.shape) if tree.ndim else float(part[0])


def _held(tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """The tensors without their graphs, in accumulation dtype."""
    return {name: held(tensor.detach()) for name, tensor in tensors.items()}


def _closed(_batch: Any) -> NoReturn:
    msg = "this point is closed: the model holds other parameters; ask inside `with engine.at(parameters) as point:`"
    raise RuntimeError(msg)
