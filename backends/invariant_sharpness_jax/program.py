"""The derivatives of one model on one batch, compiled: parameters, batch and vectors are their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from invariant_sharpness.adapters.data import Batch
from invariant_sharpness.errors import DataError
from invariant_sharpness_jax.compilation import compiled, differentiated
from invariant_sharpness_jax.example_squares import squared_products
from invariant_sharpness_jax.forward import array_of
from invariant_sharpness_jax.losses import Factors, JaxLoss
from invariant_sharpness_jax.precision import held, is_half, rounded
from invariant_sharpness_jax.room import Room
from invariant_sharpness_jax.sums import with_exact_sums
from invariant_sharpness_jax.trees import Arrays, Structure

_MOST_UNROLLED = 4
"""Vectors of a block: its one linearization is a tenth of its cost, and compiling it still takes seconds."""

Apply = Callable[[Any, Any], Any]


class Sums(NamedTuple):
    """Of a batch: the sum of the weighted losses, that of the weights, and the losses row by row."""

    total: jax.Array
    weight: jax.Array
    losses: jax.Array


class Program:
    """Sums over the examples of a batch, not means. Each method is compiled once for each shape of the batch.

    Parameters
    ----------
    apply
        ``(parameters, inputs) -> outputs``.
    structure
        How arrays are put together into the parameters that ``apply`` takes.
    dtypes
        Their types in the model.
    loss
        Of outputs and targets.
    """

    def __init__(self, apply: Apply, structure: Structure, dtypes: dict[str, jnp.dtype], loss: JaxLoss) -> None:
        self.dtypes = dtypes
        self.apply = apply
        self.structure = structure
        self._model = with_exact_sums(self._applied) if is_half(dtypes) else self._applied
        self._loss = loss
        self.evaluate = compiled(self._outputs)
        self.losses = compiled(self._losses)
        self.gradient = differentiated(self._gradient)
        self.product = differentiated(self._product)
        self._block = differentiated(self._products)
        self.curvature_product = differentiated(self._curvature_product)
        self.pushforward = differentiated(self._pushforward)
        self.pullback = differentiated(self._pullback)
        self.slopes = differentiated(self._slopes)
        self.curvature_squares = differentiated(self._curvature_squares)
        self.sampled_squares = differentiated(self._sampled_squares)
        self.gradient_squares = differentiated(self._gradient_squares)
        self.output_curvature = differentiated(self._output_curvature)

    @property
    def samples_outputs(self) -> bool:
        """Whether the loss has random factors."""
        return self._loss.samples_outputs

    def _outputs(self, arrays: Arrays, inputs: Any) -> jax.Array:
        """In single precision at least, as all that is computed from them."""
        return held(self._model(rounded(arrays, self.dtypes), inputs))

    def _applied(self, arrays: Arrays, inputs: Any) -> jax.Array:
        return array_of(self.apply(self.structure.tree(arrays), inputs))

    def _losses(self, arrays: Arrays, batch: Batch) -> Sums:
        return self._sums(self._outputs(arrays, batch.inputs), batch.targets)

    def _sums(self, outputs: jax.Array, targets: jax.Array) -> Sums:
        """The losses, added up."""
        losses, weights = self._loss.values(outputs, targets)
        return Sums(jnp.sum(losses * weights), jnp.sum(weights), losses)

    def _values(self, arrays: Arrays, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return self._loss.values(self._outputs(arrays, batch.inputs), batch.targets)

    def _gradient(self, arrays: Arrays, batch: Batch) -> tuple[Arrays, Sums]:
        """The gradient of the sum of weighted losses."""

        def total(at: Arrays) -> tuple[jax.Array, Sums]:
            sums = self._losses(at, batch)
            return sums.total, sums

        return jax.grad(total, has_aux=True)(arrays)

    def _product(self, arrays: Arrays, vector: Arrays, batch: Batch) -> tuple[Arrays, Sums]:
        """The Hessian of the sum of weighted losses times ``vector``: forward over reverse."""
        tangents = _like(arrays, vector)
        _, product, sums = jax.jvp(lambda at: self._gradient(at, batch), (arrays,), (tangents,), has_aux=True)
        return product, sums

    def products(self, arrays: Arrays, vectors: list[Arrays], batch: Batch) -> tuple[list[Arrays], Sums]:
        """The same for many vectors, in blocks that are compiled as one program each."""
        starts = range(0, len(vectors), _MOST_UNROLLED)
        blocks = [self._block(arrays, vectors[start : start + _MOST_UNROLLED], batch) for start in starts]
        return [product for products, _ in blocks for product in products], blocks[0][1]

    def _products(self, arrays: Arrays, vectors: list[Arrays], batch: Batch) -> tuple[list[Arrays], Sums]:
        """Of one block: the gradient is linearized once, and multiplied with one vector after the other.

        Not in a loop of XLA's: on a CPU its convolutions run tens of times slower inside of one.
        """
        _, linear, sums = jax.linearize(lambda at: self._gradient(at, batch), arrays, has_aux=True)
        return [linear(_like(arrays, vector)) for vector in vectors], sums

    def _curvature_product(self, arrays: Arrays, vector: Arrays, batch: Batch) -> tuple[Arrays, Sums]:
        r"""The product :math:`\sum_n w_n J_n^T \Lambda_n J_n v`: the output Hessian between two passes through the model."""

        def total(outputs: jax.Array) -> tuple[jax.Array, Sums]:
            sums = self._sums(outputs, batch.targets)
            return sums.total, sums

        outputs, pullback = jax.vjp(lambda at: self._outputs(at, batch.inputs), arrays)
        along = self._pushforward(arrays, vector, batch.inputs)
        _, curved, sums = jax.jvp(jax.grad(total, has_aux=True), (outputs,), (along,), has_aux=True)
        return pullback(curved)[0], sums

    def _pushforward(self, arrays: Arrays, vector: Arrays, inputs: Any) -> jax.Array:
        """The derivatives of the outputs along ``vector``."""
        return jax.jvp(lambda at: self._outputs(at, inputs), (arrays,), (_like(arrays, vector),))[1]

    def _pullback(self, arrays: Arrays, cotangents: jax.Array, inputs: Any) -> Arrays:
        """The gradient of the sum of outputs times ``cotangents``."""
        outputs, pullback = jax.vjp(lambda at: self._outputs(at, inputs), arrays)
        if outputs.shape != cotangents.shape:
            msg = (
                f"examples have outputs of shape {cotangents.shape[1:]} and {outputs.shape[1:]}: make batches of one "
                f"shape, or ask for fewer examples"
            )
            raise DataError(msg)
        return pullback(cotangents)[0]

    def _slopes(self, arrays: Arrays, vector: Arrays, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The sum of the weighted squares of the losses' derivatives along ``vector``, and that of the weights."""
        tangents = _like(arrays, vector)
        _, slopes, weights = jax.jvp(lambda at: self._values(at, batch), (arrays,), (tangents,), has_aux=True)
        return jnp.sum(weights * slopes**2), jnp.sum(weights)

    def _curvature_squares(self, chosen: Arrays, fixed: Arrays, batch: Batch, room: Room) -> tuple[Arrays, jax.Array]:
        """The Gauss-Newton diagonal in the chosen parameters, and the sum of the weights."""
        return self._squares(self._loss.curvature_factors, chosen, fixed, batch, room)

    def rows(self, arrays: Arrays, batch: Batch) -> tuple[int, int]:
        """Number of rows of outputs that the loss sees in a batch, and of outputs in a row. Nothing is computed."""
        losses = jax.eval_shape(self._losses, arrays, batch).losses
        outputs = jax.eval_shape(self._outputs, arrays, batch.inputs)
        return losses.size, outputs.size // losses.size

    def _sampled_squares(
        self, chosen: Arrays, fixed: Arrays, signs: jax.Array, batch: Batch, room: Room
    ) -> tuple[Arrays, jax.Array]:
        """The sum over draws of the outputs of what has the Gauss-Newton diagonal as its mean, and the sum of the weights."""
        return self._squares(lambda z, y: self._loss.sampled_factors(z, y, signs), chosen, fixed, batch, room)

    def _gradient_squares(self, chosen: Arrays, fixed: Arrays, batch: Batch, room: Room) -> tuple[Arrays, jax.Array]:
        """Squared gradients of the losses in the chosen parameters, and the sum of the weights."""
        return self._squares(self._loss.gradient_factors, chosen, fixed, batch, room)

    def _squares(
        self,
        factors_of: Callable[[jax.Array, jax.Array], Factors],
        chosen: Arrays,
        fixed: Arrays,
        batch: Batch,
        room: Room,
    ) -> tuple[Arrays, jax.Array]:
        outputs = self._outputs({**chosen, **fixed}, batch.inputs)
        _, weights = self._loss.values(outputs, batch.targets)
        factors = factors_of(outputs, batch.targets)
        squares = squared_products(lambda a, x: self._outputs({**a, **fixed}, x), chosen, batch, factors, room)
        return squares, jnp.sum(weights)

    def _output_curvature(
        self, arrays: Arrays, direction: Arrays, cotangents: jax.Array, inputs: Any
    ) -> tuple[Arrays, Arrays]:
        r"""The gradient of :math:`\phi = c \cdot z`, and the product of each diagonal block of its Hessian."""

        def gradient(at: Arrays) -> Arrays:
            return jax.grad(lambda a: jnp.sum(self._outputs(a, inputs) * cotangents))(at)

        def add_block(blocks: Arrays, chosen: Arrays) -> tuple[Arrays, None]:
            """One group moves and its own block is read."""
            tangents = {name: along * chosen[name] for name, along in _like(arrays, direction).items()}
            _, product = jax.jvp(gradient, (arrays,), (tangents,))
            return {name: block + chosen[name] * product[name] for name, block in blocks.items()}, None

        one_by_one = {
            name: jnp.zeros(len(arrays), array.dtype).at[position].set(1)
            for position, (name, array) in enumerate(arrays.items())
        }
        blocks, _ = jax.lax.scan(add_block, jax.tree.map(jnp.zeros_like, arrays), one_by_one)
        return gradient(arrays), blocks


def _like(arrays: Arrays, vector: Arrays) -> Arrays:
    """The vector in the dtypes of the parameters, as tangents have to be."""
    return {name: jnp.asarray(vector[name], dtype=array.dtype) for name, array in arrays.items()}
