"""The derivatives of one model on one batch, compiled: parameters, batch and vectors are their arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from invariant_sharpness.errors import InvariantSharpnessError, ModelError
from invariant_sharpness_jax.example_squares import squared_products
from invariant_sharpness_jax.forward import Batch, array_of
from invariant_sharpness_jax.losses import Factors, JaxLoss
from invariant_sharpness_jax.trees import Arrays, Structure

P = ParamSpec("P")
T = TypeVar("T")

Apply = Callable[[Any, Any], Any]


class Sums(NamedTuple):
    """Of a batch: the sum of the weighted losses, that of the weights, and the losses row by row."""

    total: jax.Array
    weight: jax.Array
    losses: jax.Array


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile ``function``, with products of float32 matrices in float32 instead of an accelerator's shorter type."""
    inner = jax.jit(function)

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        with jax.default_matmul_precision("highest"):
            return inner(*arguments, **options)

    return call


def differentiated(function: Callable[P, T]) -> Callable[P, T]:
    """Compile ``function``, which takes derivatives of the model.

    Raises
    ------
    ModelError
        When called, if JAX cannot differentiate what is in it.
    """
    inner = compiled(function)

    @wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return inner(*arguments, **options)
        except InvariantSharpnessError:
            raise
        except (TypeError, ValueError, NotImplementedError) as error:
            msg = (
                f"JAX cannot differentiate this model: {type(error).__name__}: {error}. Replace that operation by one with "
                f"two derivatives (lax.scan for lax.while_loop, jax.numpy for numpy)"
            )
            raise ModelError(msg) from error

    return call


class Program:
    """Sums over the examples of a batch, not means. Each method is compiled once for each shape of the batch.

    Parameters
    ----------
    apply
        ``(parameters, inputs) -> outputs``.
    structure
        How arrays are put together into the parameters that ``apply`` takes.
    loss
        Of outputs and targets.
    """

    def __init__(self, apply: Apply, structure: Structure, loss: JaxLoss) -> None:
        self._apply = apply
        self._structure = structure
        self._loss = loss
        self.evaluate = compiled(self._outputs)
        self.losses = compiled(self._losses)
        self.gradient = differentiated(self._gradient)
        self.product = differentiated(self._product)
        self.slopes = differentiated(self._slopes)
        self.curvature_squares = differentiated(self._curvature_squares)
        self.gradient_squares = differentiated(self._gradient_squares)
        self.output_curvature = differentiated(self._output_curvature)

    def _outputs(self, arrays: Arrays, inputs: Any) -> jax.Array:
        return array_of(self._apply(self._structure.tree(arrays), inputs))

    def _losses(self, arrays: Arrays, batch: Batch) -> Sums:
        """The losses, added up."""
        losses, weights = self._values(arrays, batch)
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

    def _slopes(self, arrays: Arrays, vector: Arrays, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The sum of the weighted squares of the losses' derivatives along ``vector``, and that of the weights."""
        tangents = _like(arrays, vector)
        _, slopes, weights = jax.jvp(lambda at: self._values(at, batch), (arrays,), (tangents,), has_aux=True)
        return jnp.sum(weights * slopes**2), jnp.sum(weights)

    def _curvature_squares(self, chosen: Arrays, fixed: Arrays, batch: Batch) -> tuple[Arrays, jax.Array]:
        """The Gauss-Newton diagonal in the chosen parameters, and the sum of the weights."""
        return self._squares(self._loss.curvature_factors, chosen, fixed, batch)

    def _gradient_squares(self, chosen: Arrays, fixed: Arrays, batch: Batch) -> tuple[Arrays, jax.Array]:
        """Squared gradients of the losses in the chosen parameters, and the sum of the weights."""
        return self._squares(self._loss.gradient_factors, chosen, fixed, batch)

    def _squares(
        self, factors_of: Callable[[jax.Array, jax.Array], Factors], chosen: Arrays, fixed: Arrays, batch: Batch
    ) -> tuple[Arrays, jax.Array]:
        outputs = self._outputs({**chosen, **fixed}, batch.inputs)
        _, weights = self._loss.values(outputs, batch.targets)
        factors = factors_of(outputs, batch.targets)
        squares = squared_products(lambda a, x: self._outputs({**a, **fixed}, x), chosen, batch, factors)
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
