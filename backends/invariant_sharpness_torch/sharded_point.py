r"""A model with divided parameters at one point: losses and gradients are computed, second derivatives are differences.

Hooks that gather parameters and add gradients up cannot be differentiated, so a product with the Hessian is a central difference of gradients,
:math:`H v \approx (g(\theta + t v) - g(\theta - t v)) / 2t`, and :math:`J_n v` is one of outputs. The step is :math:`t = c\,\varepsilon^{1/3} \|\theta\| / \|v\|`, with the
machine epsilon :math:`\varepsilon`: the error that grows with the step, :math:`O(t^2)`, is then as large as that of rounding, :math:`O(\varepsilon / t)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy.typing as npt
import torch

from invariant_sharpness.adapters.engine import Arrays, Cotangents, CotangentsOf, Sums
from invariant_sharpness.adapters.loss_terms import LossTerms, cotangent_terms
from invariant_sharpness.adapters.outputs import CotangentRows
from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness_torch.batches import Evaluate
from invariant_sharpness_torch.point import closed, on_host
from invariant_sharpness_torch.processes import in_model
from invariant_sharpness_torch.products import hessian_products
from invariant_sharpness_torch.sharded_arrays import ShardedNamespace, whole
from invariant_sharpness_torch.sharded_models import Shards

T = TypeVar("T")


class Spare(NamedTuple):
    """An example that does not count: a process computes with it while others compute with examples of their own."""

    batch: Any


class Differences:
    """The steps of differences, and how many products were computed by them.

    Parameters
    ----------
    step
        The length of a step, relative to the parameters.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self.taken = 0


class ShardedPoint:
    """A model with its loss at some parameters; every method is a sum over the examples of a batch.

    Gradients are added over the processes as they are computed; all else is what the examples of this process add up to.

    Parameters
    ----------
    evaluate
        From a batch to outputs, in accumulation dtype, and targets.
    loss
        The loss of outputs and targets.
    shards
        The parameters of the model.
    base
        The point.
    differences
        The step of the differences.
    """

    def __init__(
        self, evaluate: Evaluate, loss: LossTerms, shards: Shards, base: Arrays, differences: Differences
    ) -> None:
        self._forward = evaluate
        self._loss = loss
        self._shards = shards
        self._base = base
        self._differences = differences

    def close(self) -> None:
        """Refuse all further questions: the model holds other parameters from now on."""
        self._forward = closed

    def evaluate(self, batch: Any, /) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return self._evaluate(batch)

    def losses(self, batch: Any, /) -> Sums:
        with torch.no_grad():
            return self._summed(batch)[1]

    def row_losses(self, batch: Any, /) -> npt.NDArray[Any]:
        with torch.no_grad():
            losses, _ = self._loss.values(*self._evaluate(batch))
        return on_host(losses)

    def gradient(self, batch: Any, /) -> Sums:
        total, sums = self._summed(batch)
        return sums._replace(arrays=(self._pulled_back(total),))

    def hessian_products(self, vectors: Sequence[Arrays], batch: Any, /) -> Sums:
        products = [self._difference(vector, lambda: self.gradient(batch).arrays[0], _subtracted) for vector in vectors]
        return self.losses(batch)._replace(arrays=tuple(products))  # the loss is that of the point itself

    def gauss_newton_product(self, vector: Arrays, batch: Any, /) -> Sums:
        along = self._difference(vector, lambda: self.evaluate(batch)[0], _difference_of_arrays)
        outputs, targets = self._evaluate(batch)
        leaf = outputs.detach().requires_grad_()
        losses, weights = self._loss.values(leaf, targets)
        ((curved,),) = hessian_products((losses * weights).sum(), [leaf], [[along]])
        product = self._pulled_back((outputs * curved).sum() * self._counted(batch))
        return self._sums(batch, weights)._replace(arrays=(product,))

    def slopes(self, vector: Arrays, batch: Any, /) -> Sums:
        r""":math:`\sum_r w_r (u \cdot \nabla \ell_r)^2`."""
        along = self._difference(vector, lambda: self._rows(batch)[0], _difference_of_arrays)
        weights = self._rows(batch)[1]
        value = (weights * along**2).sum() * self._counted(batch)
        return self._sums(batch, weights)._replace(value=value)

    def sampled_pullback(self, cotangents: Cotangents, batch: Any, /) -> Sums:
        r"""Sum :math:`J_n^T R_n \varepsilon_n` over the examples, for the one draw of signs that the cotangents say."""
        outputs, targets = self._evaluate(batch)
        terms = cotangent_terms(
            self._loss, cotangents, outputs.detach(), targets, lambda signs: torch.as_tensor(signs).to(outputs)
        )
        total = sum(((outputs * cotangent).sum() for _, cotangent in terms), torch.zeros(()).to(outputs))
        _, weights = self._loss.values(outputs.detach(), targets)
        return self._sums(batch, weights)._replace(arrays=(self._pulled_back(total * self._counted(batch)),))

    def squares(self, _names: frozenset[str], _cotangents: Cotangents, _batch: Any, /) -> NoReturn:
        raise no_single_examples()

    def pushforward(self, vector: Arrays, batch: Any, /) -> torch.Tensor:
        return self._difference(vector, lambda: self.evaluate(batch)[0], _difference_of_arrays)

    def pullback(self, _cotangents: CotangentRows, _batch: Any, /) -> NoReturn:
        raise no_single_examples()

    def output_curvature(self, _direction: Arrays, _cotangents: CotangentsOf, _batch: Any, /) -> NoReturn:
        raise no_single_examples()

    def _difference(self, vector: Arrays, compute: Callable[[], T], subtract: Callable[[T, T, float], T]) -> T:
        """The central difference of what is computed, along a vector."""
        lengths = [ParameterVector(ShardedNamespace(), one).norm() for one in (self._base, vector)]
        self._differences.taken += 1
        step = self._differences.step * (lengths[0] or 1.0) / (lengths[1] or 1.0)
        with self._returning():
            self._move(vector, step)
            up = compute()
            self._move(vector, -step)
            return subtract(up, compute(), 2 * step)

    @contextmanager
    def _returning(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._shards.move(self._base)

    def _move(self, vector: Arrays, step: float) -> None:
        self._shards.move({name: array + step * vector[name] for name, array in self._base.items()})

    def _rows(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return self._loss.values(*self._evaluate(batch))

    def _summed(self, batch: Any) -> tuple[torch.Tensor, Sums]:
        losses, weights = self._loss.values(*self._evaluate(batch))
        total = (losses * weights).sum() * self._counted(batch)
        return total, self._sums(batch, weights)._replace(value=total.detach())

    def _sums(self, batch: Any, weights: torch.Tensor) -> Sums:
        counted = self._counted(batch)
        return Sums(weights.detach().sum() * counted, len(weights) * counted)

    def _counted(self, batch: Any) -> int:
        return 0 if isinstance(batch, Spare) else 1

    def _evaluate(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with in_model():
            outputs, targets = self._forward(batch.batch if isinstance(batch, Spare) else batch)
            return whole(outputs), targets

    def _pulled_back(self, value: torch.Tensor) -> Arrays:
        return self._shards.gradient(value)


def _subtracted(up: Arrays, down: Arrays, width: float) -> Arrays:
    return {name: (array - down[name]) / width for name, array in up.items()}


def _difference_of_arrays(up: torch.Tensor, down: torch.Tensor, width: float) -> torch.Tensor:
    return (up - down) / width


def no_single_examples() -> MissingCapabilityError:
    """The error for what takes derivatives of single examples."""
    msg = (
        "derivatives of single examples are not to be had where parameters are divided among processes, which add up their gradients as they "
        "compute them: take fisher_rao_norm(oracle, form='full'), GaussNewton(oracle), whose diagonal is sampled, or a metric of losses, gradients "
        "and Hessian-vector products"
    )
    return MissingCapabilityError(msg)
