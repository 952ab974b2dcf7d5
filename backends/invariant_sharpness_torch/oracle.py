"""A PyTorch module and its data as a curvature oracle."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat.torch
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from invariant_sharpness import probes as random
from invariant_sharpness.errors import DataError, ModelError, NonFiniteError
from invariant_sharpness.protocol import HostArrays, ParameterGroup
from invariant_sharpness.vector import ParameterVector
from invariant_sharpness_torch.dataset import Dataset, loader_generators
from invariant_sharpness_torch.example_squares import ExampleSquares
from invariant_sharpness_torch.forward import Forward, take
from invariant_sharpness_torch.losses import TorchLoss
from invariant_sharpness_torch.models import check_modules
from invariant_sharpness_torch.safeguard import evaluating

_CERTIFICATE_EXAMPLES = 32

Gradients = list[torch.Tensor]


class TorchOracle:
    """The mean loss of a module, with its derivatives by reverse-over-reverse differentiation.

    That mode works for every module whose backward pass can itself be differentiated. All sums over the
    data are of unnormalized losses and weights, batch by batch, and are divided once.

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
        outputs_per_example: int,
        groups: tuple[ParameterGroup, ...],
    ) -> None:
        self.model = model
        self.outputs_per_example = outputs_per_example
        self.groups = groups
        self._dataset = dataset
        self._loss = loss
        self._forward = forward
        self._parameters = {group.name: parameters[group.name] for group in groups}
        self._squares = ExampleSquares(model, forward, self._parameters)

    @property
    def parameters(self) -> ParameterVector:
        return self._vector([p.detach() for p in self._parameters.values()])

    def loss(self, parameters: ParameterVector, /) -> float:
        total = weight = 0.0
        with self._at(parameters), torch.no_grad():
            for index, batch in enumerate(self._dataset):
                loss_sum, weight_sum = self._sums(batch, index)
                total, weight = total + float(loss_sum), weight + weight_sum
        return total / self._positive(weight)

    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._mean(self._loss_gradient(batch, index) for index, batch in enumerate(self._dataset))

    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._mean(self._product(batch, index, vector) for index, batch in enumerate(self._dataset))

    def gauss_newton_diagonal(self, parameters: ParameterVector, /, names: frozenset[str]) -> ParameterVector:
        def squares(batch: Any) -> tuple[Gradients, float]:
            return self._squares.of_curvature(batch, self._loss, names)

        with self._at(parameters):
            return self._mean(squares(batch) for batch in self._dataset)

    def gradient_second_moment(self, parameters: ParameterVector, /) -> ParameterVector:
        with self._at(parameters):
            return self._mean(self._squares.of_gradients(batch, self._loss) for batch in self._dataset)

    def directional_second_moment(self, parameters: ParameterVector, direction: ParameterVector, /) -> float:
        total = weight = 0.0
        with self._at(parameters):
            for batch in self._dataset:
                losses, weights = self._loss.values(*self._forward(self.model, batch))
                slopes = self._directional_derivatives(losses, direction)
                total, weight = total + float((weights * slopes**2).sum()), weight + float(weights.sum())
        return total / self._positive(weight)

    def output_curvature(
        self, parameters: ParameterVector, direction: ParameterVector, /, seed: int
    ) -> tuple[ParameterVector, ParameterVector]:
        with self._at(parameters):
            head = take(next(iter(self._dataset)), 0, _CERTIFICATE_EXAMPLES)
            outputs, _ = self._forward(self.model, head)
            first = self._gradients((outputs * _cotangents(outputs, seed)).sum(), create_graph=True)
            second = [
                self._block_product(slope, direction[name], parameter)
                for slope, (name, parameter) in zip(first, self._parameters.items(), strict=True)
            ]
        return self._vector([slope.detach() for slope in first]), self._vector(second)

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self._vector(
            [
                torch.as_tensor(np.array(arrays[name]), dtype=p.dtype, device=p.device)
                for name, p in self._parameters.items()
            ]
        )

    def to_numpy(self, vector: ParameterVector, /) -> dict[str, npt.NDArray[np.float64]]:
        return {name: array.detach().to("cpu", torch.float64).numpy().copy() for name, array in vector.arrays.items()}

    @contextmanager
    def _at(self, parameters: ParameterVector) -> Generator[None]:
        check_modules(self.model)
        generators = loader_generators(self._dataset.batches.source)
        with evaluating(self.model, self._parameters, parameters.arrays, generators):
            yield

    def _sums(self, batch: Any, index: int) -> tuple[torch.Tensor, float]:
        """Sum of the weighted losses of a batch, and of the weights."""
        losses, weights = self._loss.values(*self._forward(self.model, batch))
        total = (losses * weights).sum()
        if not torch.isfinite(total):
            example = int((~torch.isfinite(losses)).to(torch.int8).argmax())
            msg = f"the loss of example {example} in batch {index} is {float(losses[example])}: there is no curvature"
            raise NonFiniteError(msg)
        return total, float(weights.sum())

    def _loss_gradient(self, batch: Any, index: int) -> tuple[Gradients, float]:
        total, weight = self._sums(batch, index)
        return self._gradients(total), weight

    def _product(self, batch: Any, index: int, vector: ParameterVector) -> tuple[Gradients, float]:
        total, weight = self._sums(batch, index)
        slopes = self._gradients(total, create_graph=True)
        inner = sum((g * vector[n]).sum() for n, g in zip(self._parameters, slopes, strict=True) if g.requires_grad)
        with _second_derivative():
            return self._gradients(inner), weight

    def _directional_derivatives(self, losses: torch.Tensor, direction: ParameterVector) -> torch.Tensor:
        """``J u`` for the losses of all examples, as the derivative of ``(J^T c) . u`` in c: two backward passes."""
        cotangent = torch.ones_like(losses, requires_grad=True)
        slopes = self._gradients((losses * cotangent).sum(), create_graph=True)
        inner = sum((g * direction[n]).sum() for n, g in zip(self._parameters, slopes, strict=True))
        if not isinstance(inner, torch.Tensor) or not inner.requires_grad:
            return torch.zeros_like(losses)
        with _second_derivative():
            (derivatives,) = torch.autograd.grad(inner, cotangent, materialize_grads=True, allow_unused=True)
        return derivatives

    def _gradients(self, value: Any, *, create_graph: bool = False) -> Gradients:
        """Derivatives in all parameters; zero for those that the value does not depend on."""
        parameters = list(self._parameters.values())
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            return [torch.zeros_like(parameter) for parameter in parameters]
        return list(
            torch.autograd.grad(value, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True)
        )

    def _block_product(self, slope: torch.Tensor, direction: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(slope)
        with _second_derivative():
            (product,) = torch.autograd.grad(
                (slope * direction).sum(), parameter, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        return product

    def _mean(self, terms: Iterator[tuple[Gradients, float]]) -> ParameterVector:
        """Sum over the batches, divided once by the sum of the weights."""
        total: Gradients | None = None
        weight = 0.0
        for part, part_weight in terms:
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
            weight += part_weight
        if total is None:
            msg = "the data yielded no batch on this pass"
            raise DataError(msg)
        mean = self._vector([(part / self._positive(weight)).detach() for part in total])
        for name, array in mean.arrays.items():
            if not torch.isfinite(array).all():
                msg = f"a derivative in parameter {name!r} is NaN or infinite, although the loss is finite"
                raise NonFiniteError(msg)
        return mean

    def _positive(self, weight: float) -> float:
        if weight > 0:
            return weight
        msg = "the weights of all examples add up to zero: every label is ignored, or its class has weight zero"
        raise DataError(msg)

    def _vector(self, arrays: Gradients) -> ParameterVector:
        return ParameterVector(self.xp, dict(zip(self._parameters, arrays, strict=True)))


@contextmanager
def _second_derivative() -> Generator[None]:
    """Say what to do where the backward pass of an operation cannot itself be differentiated."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        msg = (
            f"torch cannot differentiate this model twice: {error} Replace that operation by one with a second "
            f"derivative; fused and custom kernels often have a plain version"
        )
        raise ModelError(msg) from error


def _cotangents(outputs: torch.Tensor, seed: int) -> torch.Tensor:
    values = random.cotangents(seed, tuple(outputs.shape))
    return torch.as_tensor(values, dtype=outputs.dtype, device=outputs.device)
