"""The derivatives of one model on one batch, compiled: parameters, constants, vectors and batch are their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from invariant_sharpness.adapters.data import Batch, real_outputs
from invariant_sharpness.adapters.host_engine import blocks_and_rest
from invariant_sharpness.adapters.loss_terms import LossTerms
from invariant_sharpness.losses import Factors
from invariant_sharpness_jax import residuals
from invariant_sharpness_jax.application import Application
from invariant_sharpness_jax.compilation import Compiled, differentiated, differentiated_along, form_of_derivatives
from invariant_sharpness_jax.example_squares import squared_products
from invariant_sharpness_jax.forward import array_of
from invariant_sharpness_jax.losses import sampled_factors
from invariant_sharpness_jax.modes import Mode, alone
from invariant_sharpness_jax.own_blocks import in_their_own_derivatives
from invariant_sharpness_jax.precision import held, is_half, rounded, with_exact_sums
from invariant_sharpness_jax.room import Room
from invariant_sharpness_jax.trees import Arrays, Structure, like

_UNROLLED = 4
"""Vectors of a block: its one linearization is a tenth of its cost, and compiling it still takes seconds."""

Constants = tuple[Any, ...]
"""What the model computes with besides parameters and inputs."""

Squares = tuple[Arrays, jax.Array]
"""Sums of squares by parameter, and the sum of the weights."""


Second = Callable[[Arrays], tuple[Arrays]]
"""A second derivative as a function of vectors. What it keeps in memory is an argument of compiled programs."""


class Losses(NamedTuple):
    """The losses of a batch.

    Parameters
    ----------
    total
        The sum of the weighted losses.
    weight
        The sum of the weights.
    rows
        The loss of each row, without its weight.
    """

    total: jax.Array
    weight: jax.Array
    rows: jax.Array


class Program:
    """Sums over the examples of a batch, not means. Each method is compiled once for each shape of the batch.

    Parameters
    ----------
    application
        The model.
    structure
        How arrays are put together into the parameters that the model takes.
    dtypes
        The types of the parameters in the model.
    loss
        The loss of outputs and targets.
    """

    def __init__(
        self, application: Application, structure: Structure, dtypes: dict[str, jnp.dtype], loss: LossTerms
    ) -> None:
        self._function = application.function
        self._structure = structure
        self._dtypes = dtypes
        self._model = with_exact_sums(self._applied) if is_half(dtypes) else self._applied
        self._loss = loss
        self.evaluate = Compiled(self.outputs)
        self.losses = Compiled(self._losses)
        self.gradient = differentiated(self._gradient)
        self._block = differentiated_along(self._products)
        self._block_of_residual = differentiated_along(self._residual_block)
        self.curvature_product = differentiated_along(self._curvature_product)
        self.pushforward = differentiated_along(self._pushforward)
        self.pullback = differentiated(self._pullback)
        self.slopes = differentiated_along(self._slopes)
        self.curvature_squares = differentiated(self._curvature_squares)
        self.gradient_squares = differentiated(self._gradient_squares)
        self.sampled_squares = differentiated(self._sampled_squares)
        self.curved = form_of_derivatives(self._curved)
        self.output_curvature = differentiated(self._output_curvature)
        self.layer_outputs = Compiled(self._layer_outputs)
        self.layer_moments = differentiated(self._layer_moments)
        self.layer_curvature = differentiated(self._layer_curvature)
        self.applied = Compiled(_applied)
        self.perturbed_products = Compiled(self._perturbed_products)

    def row_shape(self, arrays: Arrays, constants: Constants, batch: Batch) -> tuple[int, int]:
        """Return the number of rows of outputs that the loss sees in a batch, and of outputs in a row. Nothing is computed."""
        return self._loss.row_shape(self.evaluate.form(arrays, constants, batch.inputs), batch.targets)

    def products(
        self, arrays: Arrays, constants: Constants, vectors: Sequence[Arrays], batch: Batch
    ) -> tuple[list[Arrays], Losses]:
        """Multiply the Hessian with vectors, in blocks that are compiled as one program each, and the rest one by one."""
        return _in_blocks(vectors, lambda block: self._block(arrays, constants, block, batch))

    def residual_block(
        self, chosen: Arrays, fixed: Arrays, constants: Constants, vectors: Sequence[Arrays], batch: Batch
    ) -> tuple[list[Arrays], Losses]:
        """Multiply the residual part on the chosen parameters with vectors, in such blocks, too."""
        return _in_blocks(vectors, lambda block: self._block_of_residual(chosen, fixed, constants, block, batch))

    def outputs(self, arrays: Arrays, constants: Constants, inputs: Any) -> jax.Array:
        """In single precision at least, as all that is computed from them."""
        return held(self._model(rounded(arrays, self._dtypes), constants, inputs))

    def _applied(self, arrays: Arrays, constants: Constants, inputs: Any) -> jax.Array:
        return real_outputs(array_of(self._function(self._structure.tree(arrays), inputs, *constants)))

    def _losses(self, arrays: Arrays, constants: Constants, batch: Batch) -> Losses:
        return self._summed(self.outputs(arrays, constants, batch.inputs), batch.targets)

    def _summed(self, outputs: jax.Array, targets: jax.Array) -> Losses:
        rows, weights = self._loss.values(outputs, targets)
        return Losses(jnp.sum(rows * weights), jnp.sum(weights), rows)

    def _gradient(self, arrays: Arrays, constants: Constants, batch: Batch) -> tuple[Arrays, Losses]:
        """The gradient of the sum of weighted losses."""

        def total(at: Arrays) -> tuple[jax.Array, Losses]:
            losses = self._losses(at, constants, batch)
            return losses.total, losses

        return jax.grad(total, has_aux=True)(arrays)

    def _products(
        self, mode: Mode, arrays: Arrays, constants: Constants, vectors: list[Arrays], batch: Batch
    ) -> tuple[list[Arrays], Losses]:
        """Of one block: the gradient is differentiated once, and multiplied with one vector after the other.

        Not in a loop of XLA's: on a CPU its convolutions run tens of times slower inside of one.
        """
        along = [like(arrays, vector) for vector in vectors]
        return mode.products(lambda at: self._gradient(at, constants, batch), arrays, along)

    def _curvature_product(
        self, mode: Mode, arrays: Arrays, constants: Constants, vector: Arrays, batch: Batch
    ) -> tuple[Arrays, Losses]:
        r"""The product :math:`\sum_n w_n J_n^T \Lambda_n J_n v`: the output Hessian between two passes through the model."""

        def total(outputs: jax.Array) -> tuple[jax.Array, Losses]:
            losses = self._summed(outputs, batch.targets)
            return losses.total, losses

        outputs, pullback = jax.vjp(lambda at: self.outputs(at, constants, batch.inputs), arrays)
        along = self._pushforward(mode, arrays, constants, vector, batch.inputs)
        (curved,), losses = mode.products(jax.grad(total, has_aux=True), outputs, [along])
        return pullback(curved)[0], losses

    def _residual_block(
        self, mode: Mode, chosen: Arrays, fixed: Arrays, constants: Constants, vectors: list[Arrays], batch: Batch
    ) -> tuple[list[Arrays], Losses]:
        """Of one block: the products with the Hessian of the outputs along their constant cotangents."""
        outputs_of, inputs = self._at(constants, fixed), batch.inputs
        outputs = outputs_of(chosen, inputs)
        cotangents = self._loss_slopes(batch)(outputs)
        slopes = alone(lambda at: jax.vjp(lambda inner: outputs_of(inner, inputs), at)[1](cotangents)[0])
        products, _ = mode.products(slopes, chosen, [like(chosen, vector) for vector in vectors])
        return products, self._summed(outputs, batch.targets)

    def _pushforward(self, mode: Mode, arrays: Arrays, constants: Constants, vector: Arrays, inputs: Any) -> jax.Array:
        """The derivatives of the outputs along ``vector``."""
        outputs = alone(lambda at: self.outputs(at, constants, inputs))
        found: jax.Array = mode.along(outputs, arrays, like(arrays, vector))[0]
        return found

    def _pullback(self, arrays: Arrays, constants: Constants, cotangents: jax.Array, inputs: Any) -> Arrays:
        """The gradient of the sum of outputs times ``cotangents``."""
        _, pullback = jax.vjp(lambda at: self.outputs(at, constants, inputs), arrays)
        return pullback(cotangents)[0]

    def _slopes(
        self, mode: Mode, arrays: Arrays, constants: Constants, vector: Arrays, batch: Batch
    ) -> tuple[jax.Array, jax.Array]:
        """The sum of the weighted squares of the losses' derivatives along ``vector``, and that of the weights."""

        def values(at: Arrays) -> tuple[jax.Array, jax.Array]:
            return self._loss.values(self.outputs(at, constants, batch.inputs), batch.targets)

        slopes, weights = mode.along(values, arrays, like(arrays, vector))
        return jnp.sum(weights * slopes**2), jnp.sum(weights)

    def _curvature_squares(
        self, chosen: Arrays, fixed: Arrays, constants: Constants, batch: Batch, room: Room
    ) -> Squares:
        """The Gauss-Newton diagonal in the chosen parameters."""
        return self._squares(self._loss.curvature_factors, chosen, fixed, constants, batch, room)

    def _gradient_squares(
        self, chosen: Arrays, fixed: Arrays, constants: Constants, batch: Batch, room: Room
    ) -> Squares:
        """Squared gradients of the losses in the chosen parameters."""
        return self._squares(self._loss.gradient_factors, chosen, fixed, constants, batch, room)

    def _sampled_squares(
        self, chosen: Arrays, fixed: Arrays, constants: Constants, signs: jax.Array, batch: Batch, room: Room
    ) -> Squares:
        """The sum over draws of the outputs of what has the Gauss-Newton diagonal as its mean."""

        def factors(outputs: jax.Array, targets: jax.Array) -> Factors:
            return sampled_factors(self._loss, outputs, targets, signs)

        return self._squares(factors, chosen, fixed, constants, batch, room)

    def _squares(
        self,
        factors_of: Callable[[jax.Array, jax.Array], Factors],
        chosen: Arrays,
        fixed: Arrays,
        constants: Constants,
        batch: Batch,
        room: Room,
    ) -> Squares:
        outputs_of = self._at(constants, fixed)
        outputs = outputs_of(chosen, batch.inputs)
        _, weights = self._loss.values(outputs, batch.targets)
        factors = factors_of(outputs, batch.targets)
        return squared_products(outputs_of, chosen, batch, factors, room), jnp.sum(weights)

    def _layer_outputs(self, arrays: Arrays, constants: Constants, batch: Batch) -> dict[str, Arrays]:
        """The outputs of each layer, by the names of the layer and of its parameters."""
        return residuals.owned(self._at(constants, {}), arrays, batch.inputs)

    def _layer_moments(self, arrays: Arrays, constants: Constants, batch: Batch) -> Arrays:
        """Sums of squares of the outputs of layers, and of their cotangents."""
        return residuals.moments(self._at(constants, {}), self._loss_slopes(batch), arrays, batch.inputs)

    def _layer_curvature(
        self, chosen: Arrays, fixed: Arrays, constants: Constants, batch: Batch
    ) -> tuple[Second, jax.Array]:
        """The second derivative in the outputs of the layers of the chosen parameters, and the sum of the weights."""
        outputs = self._at(constants, fixed)
        second = residuals.second_derivative(outputs, self._loss_slopes(batch), chosen, batch.inputs)
        return second, self._summed(outputs(chosen, batch.inputs), batch.targets).weight

    def _perturbed_products(
        self,
        chosen: Arrays,
        fixed: Arrays,
        constants: Constants,
        scales: Arrays,
        signs: Arrays,
        images: Arrays,
        batch: Batch,
        room: Room,
    ) -> Arrays:
        """What perturbations of the outputs of layers and their images make of the chosen parameters, multiplied."""
        left = {name: drawn / scales[name] for name, drawn in signs.items()}
        return residuals.products(self._at(constants, fixed), chosen, batch.inputs, left, images, room)

    def _at(self, constants: Constants, fixed: Arrays) -> Callable[[Arrays, Any], jax.Array]:
        """The model, as a function of the parameters that are not fixed."""
        return lambda arrays, inputs: self.outputs({**arrays, **fixed}, constants, inputs)

    def _loss_slopes(self, batch: Batch) -> Callable[[jax.Array], jax.Array]:
        """The derivatives of the sum of the weighted losses in the outputs."""
        return jax.grad(lambda outputs: self._summed(outputs, batch.targets).total)

    def _curved(
        self, arrays: Arrays, constants: Constants, cotangents: jax.Array, inputs: Any
    ) -> tuple[Arrays, Arrays]:
        r"""Those parameters that are in their own derivatives of :math:`\phi = c \cdot z`, and those that may be."""
        blocks = in_their_own_derivatives(lambda at: self._pullback(at, constants, cotangents, inputs), arrays)
        certain, possible = ({name: arrays[name] for name in names} for names in blocks)
        return certain, possible

    def _output_curvature(self, arrays: Arrays, constants: Constants, cotangents: jax.Array, inputs: Any) -> Second:
        r"""The second derivative of :math:`\phi = c \cdot z`."""
        return jax.vjp(lambda at: self._pullback(at, constants, cotangents, inputs), arrays)[1]


def _applied(vector: Arrays, second: Second) -> Arrays:
    """The product of a second derivative with a vector."""
    return second(vector)[0]


def _in_blocks(
    vectors: Sequence[Arrays], multiply: Callable[[list[Arrays]], tuple[list[Arrays], Losses]]
) -> tuple[list[Arrays], Losses]:
    """The products of blocks of vectors that are compiled as one program each, and of the rest one by one."""
    found = [multiply(list(vectors[block])) for block in blocks_and_rest(len(vectors), _UNROLLED)]
    return [product for products, _ in found for product in products], found[0][1]
