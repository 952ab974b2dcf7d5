"""Derivatives by PyTorch: reverse over reverse, on tensors that stand in for the model's variables."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from invariant_sharpness.adapters.data import map_leaves
from invariant_sharpness.errors import ModelError
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.engines import Array, Arrays
from invariant_sharpness_keras.layer_sites import Site, recording
from invariant_sharpness_keras.losses import KerasLoss
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.squared_products import AtSites, SquaredProducts

Tensors = list[torch.Tensor]


def engine(model: keras.Model, loss: KerasLoss) -> TorchEngine:
    """The engine of a Keras model."""
    return TorchEngine(model, loss)


class TorchEngine:
    """Stateless calls of the model; attention runs under the math kernel, the only one with second derivatives."""

    name = "PyTorch"

    def __init__(self, model: keras.Model, loss: KerasLoss) -> None:
        self._model = model
        self._loss = loss
        self._device = model.trainable_variables[0].value.device
        self._squares = SquaredProducts(model, self)

    def outputs(self, values: Arrays, inputs: Any, /) -> Array:
        with torch.no_grad():
            return keras.tree.map_structure(_on_host, self._call(self._tensors(values), inputs))

    def losses(self, values: Arrays, inputs: Any, targets: Array, /) -> Array:
        with torch.no_grad():
            return _on_host(self._losses(self._tensors(values), inputs, targets))

    def loss_gradient(self, values: Arrays, inputs: Any, targets: Array, weights: Array, /) -> tuple[Arrays, Array]:
        with _differentiating():
            leaves = self._leaves(values)
            losses = self._losses(leaves, inputs, targets)
            total = (losses * self._like(losses, weights)).sum()
            return [_on_host(g) for g in _gradients(total, leaves)], _on_host(losses)

    def loss_products(
        self, values: Arrays, vectors: list[Arrays], inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[list[Arrays], Array]:
        with _differentiating():
            leaves = self._leaves(values)
            losses = self._losses(leaves, inputs, targets)
            slopes = _gradients((losses * self._like(losses, weights)).sum(), leaves, create_graph=True)
            products = [_gradients(self._inner(slopes, vector), leaves) for vector in vectors]
            return [[_on_host(part) for part in product] for product in products], _on_host(losses)

    def loss_slopes(self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, /) -> tuple[Array, Array]:
        with _differentiating():
            leaves = self._leaves(values)
            losses = self._losses(leaves, inputs, targets)
            return _on_host(self._along(losses, leaves, directions)), _on_host(losses)

    def curvature_product(
        self, values: Arrays, directions: Arrays, inputs: Any, targets: Array, weights: Array, /
    ) -> tuple[Arrays, Array]:
        with _differentiating():
            leaves = self._leaves(values)
            outputs = self._call(leaves, inputs)
            along = self._along(outputs, leaves, directions)
            z = outputs.detach().requires_grad_()
            losses = self._loss.values(z, self._tensor(targets))
            slopes = _gradients((losses * self._like(losses, weights)).sum(), [z], create_graph=True)
            (curved,) = _gradients((slopes[0] * along).sum(), [z])
            return [_on_host(p) for p in _gradients((outputs * curved).sum(), leaves)], _on_host(losses)

    def output_gradient(self, values: Arrays, inputs: Any, cotangents: Array, /) -> Arrays:
        with _differentiating():
            leaves = self._leaves(values)
            outputs = self._call(leaves, inputs)
            return [_on_host(g) for g in _gradients((outputs * self._like(outputs, cotangents)).sum(), leaves)]

    def output_slopes(self, values: Arrays, directions: Arrays, inputs: Any, /) -> Array:
        with _differentiating():
            leaves = self._leaves(values)
            return _on_host(self._along(self._call(leaves, inputs), leaves, directions))

    def output_product(
        self, values: Arrays, directions: Arrays, inputs: Any, cotangents: Array, /
    ) -> tuple[Arrays, Arrays]:
        with _differentiating():
            leaves = self._leaves(values)
            outputs = self._call(leaves, inputs)
            slopes = _gradients((outputs * self._like(outputs, cotangents)).sum(), leaves, create_graph=True)
            products = _gradients(self._inner(slopes, directions), leaves)
            return [_on_host(g) for g in slopes], [_on_host(p) for p in products]

    def output_squares(
        self, values: Arrays, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array, /
    ) -> dict[int, Array]:
        return self._squares(values, wanted, inputs, signs, cotangents)

    def squares_one_by_one(self, values: Arrays, inputs: Any, signs: Array, cotangents: Array, /) -> Arrays:
        with _differentiating():
            leaves = self._leaves(values)
            sums = [torch.zeros_like(leaf, requires_grad=False) for leaf in leaves]
            for example, sign in enumerate(signs):
                outputs = self._call(leaves, _row(inputs, example))
                slopes = _gradients((outputs[0] * self._like(outputs, cotangents[example])).sum(), leaves)
                sums = [a + float(sign) * b**2 for a, b in zip(sums, slopes, strict=True)]
            return [_on_host(total) for total in sums]

    def squares_at(self, sites: Sequence[Site], /) -> AtSites:
        return partial(self._squares_at, sites)

    def _squares_at(
        self, sites: Sequence[Site], values: Arrays, inputs: Any, signs: Array, cotangents: Array
    ) -> dict[int, Array]:
        with _differentiating(), recording(sites) as records:
            outputs = self._call(self._leaves(values), inputs)
        with _differentiating(), torch.no_grad():
            opened = OpenedSites(sites, records, outputs)
            for sign, cotangent in zip(signs, cotangents, strict=True):
                deltas = _gradients(outputs, opened.affine, self._like(outputs, cotangent))
                opened.add(self._tensor(sign), deltas)
            return {index: _on_host(total) for index, total in opened.finished().items()}

    def row_losses(self, outputs: Array, targets: Array, /) -> Array:
        return _on_host(self._loss.values(self._tensor(outputs), self._tensor(targets)))

    def row_gradient(self, outputs: Array, targets: Array, /) -> Array:
        with _differentiating():
            leaf = self._tensor(outputs).requires_grad_()
            return _on_host(_gradients(self._loss.values(leaf, self._tensor(targets)).sum(), [leaf])[0])

    def row_hessian(self, outputs: Array, targets: Array, /) -> Array:
        with _differentiating():
            leaf = self._tensor(outputs.reshape(len(outputs), -1)).requires_grad_()
            total = self._loss.values(leaf.reshape(outputs.shape), self._tensor(targets)).sum()
            (slopes,) = _gradients(total, [leaf], create_graph=True)
            columns = [_gradients(column, [leaf])[0] for column in slopes.sum(dim=0)]
            return _on_host(torch.stack(columns, dim=1))

    def _call(self, values: Tensors, inputs: Any) -> torch.Tensor:
        fixed = inference.constants(self._model)
        returned: torch.Tensor = inference.outputs(self._model, values, fixed, map_leaves(self._tensor, inputs))
        return returned

    def _losses(self, values: Tensors, inputs: Any, targets: Array) -> torch.Tensor:
        return self._loss.values(self._call(values, inputs), self._tensor(targets))

    def _along(self, results: torch.Tensor, leaves: Tensors, directions: Arrays) -> torch.Tensor:
        """``J u`` for all results, as the derivative of ``(J^T c) . u`` in c."""
        cotangent = torch.ones_like(results, requires_grad=True)
        slopes = _gradients((results * cotangent).sum(), leaves, create_graph=True)
        return _gradients(self._inner(slopes, directions), [cotangent])[0]

    def _inner(self, slopes: Tensors, directions: Arrays) -> torch.Tensor:
        return torch.stack(
            [(g * self._tensor(d)).sum().double() for g, d in zip(slopes, directions, strict=True)]
        ).sum()

    def _leaves(self, values: Arrays) -> Tensors:
        return [tensor.requires_grad_() for tensor in self._tensors(values)]

    def _tensors(self, values: Arrays) -> Tensors:
        return [self._tensor(value) for value in values]

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.as_tensor(np.array(array), device=self._device)

    def _like(self, tensor: torch.Tensor, array: Array) -> torch.Tensor:
        return self._tensor(array).to(tensor.dtype)


@contextmanager
def _differentiating() -> Generator[None]:
    """Say what to do where the backward pass of an operation cannot itself be differentiated."""
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        msg = (
            f"torch cannot differentiate this model twice: {error} Replace that operation by one with a second "
            f"derivative; fused and custom kernels often have a plain version"
        )
        raise ModelError(msg) from error


def _gradients(
    value: torch.Tensor, leaves: Tensors, cotangent: torch.Tensor | None = None, *, create_graph: bool = False
) -> Tensors:
    """Derivatives in all leaves of the sum of ``cotangent * value``; zero for those that it does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(
            value,
            leaves,
            cotangent,
            create_graph=create_graph,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    )


def _row(inputs: Any, example: int) -> Any:
    """One example, as a batch."""
    return map_leaves(lambda leaf: leaf[example : example + 1], inputs)


def _on_host(tensor: torch.Tensor) -> Array:
    return np.array(tensor.detach().cpu())
