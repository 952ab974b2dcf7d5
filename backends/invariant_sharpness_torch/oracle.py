"""A PyTorch module and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import array_api_compat.torch
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness import prng as random
from invariant_sharpness.adapters.data import Batch, all_examples, infinite_derivative, infinite_loss, positive_weight
from invariant_sharpness.adapters.outputs import CotangentRows, stacked
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.prng import Draws
from invariant_sharpness.protocol import HostArrays, ParameterGroup, Rows
from invariant_sharpness_torch.dataset import Dataset, loader_generators
from invariant_sharpness_torch.example_squares import ExampleSquares
from invariant_sharpness_torch.forward import Forward, batch_size, take
from invariant_sharpness_torch.losses import TorchLoss
from invariant_sharpness_torch.means import added, mean_of, zeros_like
from invariant_sharpness_torch.models import check_modules
from invariant_sharpness_torch.pieces import Footprint, Piece
from invariant_sharpness_torch.precision import held, held_dtype, model_rounding
from invariant_sharpness_torch.products import (
    Tensors,
    block_product,
    gauss_newton_product,
    gradients,
    hessian_products,
    jacobian_product,
)
from invariant_sharpness_torch.safeguard import evaluating

_CERTIFICATE_EXAMPLES = 32


class TorchOracle:
    """The mean loss of a module, with its derivatives by reverse-over-reverse differentiation.

    That mode works for every module whose backward pass can itself be differentiated. All sums over the
    data are of unnormalized losses and weights, batch by batch, and are divided once.

    A model in half precision computes in half precision, forward and backward. Its vectors are in float32, and so are
    its losses, squares, and sums over batches.

    Parameters
    ----------
    model
        Deterministic and example by example; it is never changed.
    dataset
        Batches of tensors.
    loss
        Of outputs and targets.
    forward
        ``(model, batch) -> (outputs, targets)``.
    parameters
        Those that are measured, by name.
    footprint
        What the activations of an example take: batches are computed in pieces that fit into the memory limit.
    outputs_per_example
        Number of outputs of one example.
    groups
        Roles and axes of the parameters, in the same order.
    """

    xp = array_api_compat.torch

    def __init__(
        self,
        model: nn.Module,
        dataset: Dataset,
        loss: TorchLoss,
        forward: Forward,
        parameters: dict[str, nn.Parameter],
        footprint: Footprint,
        outputs_per_example: int,
        groups: tuple[ParameterGroup, ...],
    ) -> None:
        self.model = model
        self.outputs_per_example = outputs_per_example
        self.groups = groups
        self._dataset = dataset
        self._loss = loss
        self._forward = forward
        self._footprint = footprint
        self._parameters = {group.name: parameters[group.name] for group in groups}
        self._squares = ExampleSquares(model, forward, self._parameters)

    @property
    def parameters(self) -> ParameterVector:
        return self._vector([held(p.detach()) for p in self._parameters.values()])

    @property
    def model_rounding(self) -> float:
        return model_rounding(self.model)

    def loss(self, parameters: ParameterVector, /) -> float:
        total = weight = 0.0
        with self._at(parameters), torch.no_grad():
            for piece in self._pieces():
                loss_sum, weight_sum = self._sums(piece)
                total, weight = total + float(loss_sum), weight + weight_sum
        return total / positive_weight(weight)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._means(self._loss_gradient(piece) for piece in self._pieces())[0]

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._means(self._products(piece, [vector]) for piece in self._pieces())[0]

    def hessian_vector_products(
        self, parameters: ParameterVector, vectors: Sequence[ParameterVector], /
    ) -> list[ParameterVector]:
        with self._at(parameters):
            return self._means(self._products(piece, vectors) for piece in self._pieces())

    def gauss_newton_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._means(self._curvature_product(batch, vector) for batch, *_ in self._pieces())[0]

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        def squares(batch: Any) -> tuple[Tensors, float]:
            return self._squares.of_curvature(batch, self._loss, names)

        with self._at(parameters):
            return self._means(squares(batch) for batch, *_ in self._pieces())[0]

    @property
    def samples_outputs(self) -> bool:
        return self._loss.samples_outputs

    def sampled_gauss_newton_diagonal(
        self, parameters: ParameterVector, /, names: frozenset[str], draws: range, seed: int
    ) -> ParameterVector:
        def squares() -> Iterator[tuple[Tensors, float]]:
            start = 0
            for batch, *_ in self._pieces():
                sums, weight, rows = self._squares.of_samples(batch, self._loss, names, Draws(draws, seed, start))
                start += rows
                yield sums, weight

        with self._at(parameters):
            return self._means(squares())[0] / float(len(draws))

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._means(self._squares.of_gradients(batch, self._loss) for batch, *_ in self._pieces())[0]

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        total = weight = 0.0
        with self._at(parameters):
            for batch, *_ in self._pieces():
                losses, weights = self._loss.values(*self._forward(self.model, batch))
                slopes = jacobian_product(losses, self._sources, self._along(direction))
                total, weight = total + float((weights * slopes**2).sum()), weight + float(weights.sum())
        return total / positive_weight(weight)

    @cached_property
    def examples(self) -> int:
        with self._at(self.parameters):
            return self._dataset.count()

    def subset(self, examples: Sequence[int], /) -> TorchOracle:
        with self._at(self.parameters):
            dataset = self._dataset.subset(examples)
        shared = self._parameters, self._footprint, self.outputs_per_example, self.groups
        return TorchOracle(self.model, dataset, self._loss, self._forward, *shared)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        slopes, bends, start = zeros_like(self._sources), zeros_like(self._sources), 0
        with self._at(parameters):
            for batch in self._head(_CERTIFICATE_EXAMPLES):
                outputs, _ = self._forward(self.model, batch)
                value = (outputs * _cotangents(outputs, seed, start)).sum()
                first = gradients(value, self._sources, create_graph=True)
                blocks = zip(first, self._along(direction), self._sources, strict=True)
                bends = added(bends, [block_product(slope, along, source) for slope, along, source in blocks])
                slopes, start = added(slopes, first), start + len(outputs)
        return self._vector(slopes), self._vector(bends)

    def outputs(self, parameters: ParameterVector, /, examples: int) -> Rows:
        with self._at(parameters), torch.no_grad():
            return stacked(_host(self._forward(self.model, batch)[0]) for batch in self._head(examples))

    def jacobian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /, examples: int) -> Rows:
        with self._at(parameters):
            passes = (self._forward(self.model, batch)[0] for batch in self._head(examples))
            return stacked(_host(jacobian_product(z, self._sources, self._along(vector))) for z in passes)

    def vector_jacobian_product(self, parameters: ParameterVector, cotangents: Rows, /) -> ParameterVector:
        rows = CotangentRows(cotangents)
        total = zeros_like(self._sources)
        with self._at(parameters):
            for batch in self._head(len(rows)):
                outputs, _ = self._forward(self.model, batch)
                weighted = outputs * torch.as_tensor(rows.next_like(tuple(outputs.shape))).to(outputs)
                total = added(total, gradients(weighted.sum(), self._sources))
        rows.check_used()
        return self._vector(total)

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self._vector(
            [
                torch.as_tensor(np.array(arrays[name]), dtype=held_dtype(p.dtype), device=p.device)
                for name, p in self._parameters.items()
            ]
        )

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: array.detach().to("cpu", torch.float64).numpy().copy() for name, array in vector.arrays.items()}

    def all_examples(self) -> Batch:
        """All inputs and all targets, each in one tensor or nest of tensors, on the model's device. Raises DataError if they do not fit."""
        with self._at(self.parameters):
            return all_examples(self._dataset)

    @contextmanager
    def _at(self, parameters: ParameterVector) -> Generator[None]:
        check_modules(self.model)
        generators = loader_generators(self._dataset.batches.source)
        with evaluating(self.model, self._parameters, parameters.arrays, generators):
            yield

    def _pieces(self) -> Iterator[Piece]:
        return self._footprint.pieces(self._dataset)

    def _sums(self, piece: Piece) -> tuple[torch.Tensor, float]:
        """Sum of the weighted losses of some examples, and of the weights."""
        losses, weights = self._loss.values(*self._forward(self.model, piece.batch))
        total = (losses * weights).sum()
        if not torch.isfinite(total):
            row = int((~torch.isfinite(losses)).to(torch.int8).argmax())
            raise infinite_loss(piece.start + row, piece.number, float(losses[row]))
        return total, float(weights.sum())

    def _loss_gradient(self, piece: Piece) -> tuple[Tensors, float]:
        total, weight = self._sums(piece)
        return gradients(total, self._sources), weight

    def _products(self, piece: Piece, vectors: Sequence[ParameterVector]) -> tuple[Tensors, float]:
        """The products of all vectors, one after the other in one list."""
        total, weight = self._sums(piece)
        products = hessian_products(total, self._sources, [self._along(vector) for vector in vectors])
        return [part for product in products for part in product], weight

    def _curvature_product(self, batch: Any, vector: ParameterVector) -> tuple[Tensors, float]:
        outputs, targets = self._forward(self.model, batch)
        product = gauss_newton_product(outputs, targets, self._loss, self._sources, self._along(vector))
        _, weights = self._loss.values(outputs.detach(), targets)
        return product, float(weights.sum())

    def _head(self, examples: int) -> Iterator[Any]:
        """The first examples of a pass, batch by batch."""
        for batch, *_ in self._pieces():
            if examples <= 0:
                return
            yield take(batch, 0, examples)
            examples -= batch_size(batch)

    @property
    def _sources(self) -> list[nn.Parameter]:
        return list(self._parameters.values())

    def _along(self, vector: ParameterVector) -> Tensors:
        """The direction, as the model can follow it."""
        return [vector[name].to(parameter.dtype) for name, parameter in self._parameters.items()]

    def _means(self, terms: Iterator[tuple[Tensors, float]]) -> list[ParameterVector]:
        """The means of as many vectors as every term has one after the other."""
        parts, length = mean_of(terms), len(self._parameters)
        return [self._finite(parts[start : start + length]) for start in range(0, len(parts), length)]

    def _finite(self, arrays: Tensors) -> ParameterVector:
        for name, array in zip(self._parameters, arrays, strict=True):
            if not torch.isfinite(array).all():
                raise infinite_derivative(name)
        return self._vector(arrays)

    def _vector(self, arrays: Tensors) -> ParameterVector:
        return ParameterVector(self.xp, dict(zip(self._parameters, arrays, strict=True)))


def _cotangents(outputs: torch.Tensor, seed: int, start: int) -> torch.Tensor:
    """Those of some rows, of which the first is row ``start``."""
    values = random.cotangents(seed, (start + len(outputs), *outputs.shape[1:]))[start:]
    return torch.as_tensor(values, dtype=outputs.dtype, device=outputs.device)


def _host(tensor: torch.Tensor) -> Rows:
    return tensor.detach().to("cpu", torch.float64).numpy()
