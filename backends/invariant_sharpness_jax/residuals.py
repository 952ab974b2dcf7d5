r"""The residual part R of the Hessian at the layers of a model, example by example.

R is the Hessian of :math:`\sum_n \langle c_n, f(x_n) \rangle` with constant cotangents. Its derivatives :math:`\delta_n` in the outputs of all layers are differentiated once, with what that takes
kept in memory; what a perturbation u of a layer's outputs makes of them, :math:`K_n u`, is one pass through what has been kept. That pass is compiled once, for whichever layer
is perturbed: a program for each layer, of what lies above it alone, would take half of its time, and be ten times as much to compile in a network of 20 layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from invariant_sharpness_jax.layer_sites import Outputs, survey, tapped
from invariant_sharpness_jax.layer_squares import ProductSums
from invariant_sharpness_jax.precision import held
from invariant_sharpness_jax.room import Room
from invariant_sharpness_jax.trees import Arrays

CotangentsOf = Callable[[jax.Array], jax.Array]
"""From the outputs of a model to the derivatives of the loss in them."""

ByLayer = dict[str, jax.Array]
"""Arrays of shape (examples, positions, output units), by the name of the layer."""


def owned(outputs: Outputs, arrays: Arrays, inputs: Any) -> dict[str, Arrays]:
    """Return the outputs of each layer, by the names of the layer and of its parameters."""
    opened = survey(outputs, arrays, inputs)
    met = opened.run(opened.zeros())[1]
    return {
        layer.name: dict.fromkeys(layer.names, layer.by_unit(met.results[layer.names[-1]])) for layer in opened.layers
    }


def moments(outputs: Outputs, cotangents_of: CotangentsOf, arrays: Arrays, inputs: Any) -> Arrays:
    """Return the sums of squares of the outputs of each layer and of their cotangents, unit by unit: shape (2, units), by the name of the layer."""
    opened = tapped(outputs, arrays, inputs)
    deltas = opened.pullback(cotangents_of(opened.outputs))
    found: Arrays = {}
    for layer in opened.layers:
        both = layer.by_unit(opened.met.results[layer.names[-1]]), deltas[layer.name]
        found[layer.name] = jnp.stack([jnp.sum(held(one) ** 2, axis=(0, 1)) for one in both])
    return found


def second_derivative(
    outputs: Outputs, cotangents_of: CotangentsOf, arrays: Arrays, inputs: Any
) -> Callable[[ByLayer], tuple[ByLayer]]:
    """Differentiate the cotangents of the outputs of all layers in these outputs: a function of perturbations, which a compiled program may return."""
    opened = survey(outputs, arrays, inputs)

    def slopes(taps: ByLayer) -> ByLayer:
        value, pullback, _ = jax.vjp(opened.run, taps, has_aux=True)
        # the cotangents are those of the loss where nothing is added, and constant
        deltas: ByLayer = pullback(jax.lax.stop_gradient(cotangents_of(value)))[0]
        return deltas

    return jax.vjp(slopes, opened.zeros())[1]


def products(outputs: Outputs, arrays: Arrays, inputs: Any, left: ByLayer, right: ByLayer, room: Room) -> Arrays:
    r"""Sum :math:`(A_n^T u_n) \circ (A_n^T v_n)` over the examples, parameter by parameter."""
    opened = survey(outputs, arrays, inputs)
    sums = ProductSums(opened.layers, opened.run(opened.zeros())[1], arrays, room)
    return sums.finish(sums.add(sums.start(), jnp.ones(len(jax.tree.leaves(left)[0])), left, right))
