"""What TensorFlow computes at the sites of a forward pass: squares, moments, and the residual part of the diagonal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from invariant_sharpness_keras.layer_sites import Site, recording
from invariant_sharpness_keras.layer_units import UnitAxes
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.tensorflow_graphs import Graphs, gradients
from invariant_sharpness_keras.tensorflow_models import Tensors
from invariant_sharpness_keras.tensorflow_tracing import TracedByExample

_UNROLLED = 10
"""So many sites have their backward passes in one graph. It grows with the square of their number: with 25 sites it takes as long to make
as a draw at each of them without a graph 30 times over."""


class SiteGraphs:
    """The derivatives at some sites of a model, all examples at once; each is compiled for the shapes that it meets.

    The residual part at many sites is not: it is computed operation by operation.

    Parameters
    ----------
    graphs
        The derivatives of the model and its loss.
    sites
        Where its layers are, each of which a forward pass goes through once.
    """

    def __init__(self, graphs: Graphs, sites: Sequence[Site]) -> None:
        self.sites = list(sites)
        self._graphs = graphs
        self.moments = graphs.compiled(self._moments)
        self.residuals = graphs.compiled(self._residuals) if len(sites) <= _UNROLLED else self._residuals
        self.squares = TracedByExample(self._squares)
        self.shapes = TracedByExample(self._shapes)

    def _squares(self, values: Tensors, inputs: Any, signs: Tensors, cotangents: Tensors) -> dict[int, Any]:
        """The terms are unrolled in one graph with the forward pass: there alone is max pooling fast."""
        with tf.GradientTape(persistent=True) as tape:
            opened, outputs = self._open(tape, values, inputs)
        for sign, cotangent in zip(signs, cotangents, strict=True):
            with tf.control_dependencies(opened.totals):
                opened.add(sign, gradients(tape, outputs, opened.affine, tf.identity(cotangent)))
        return opened.finished()

    def _shapes(self, values: Tensors, inputs: Any) -> dict[int, Any]:
        """The numbers of positions and of output units of each site; where they are fixed, nothing is computed."""
        with tf.GradientTape() as tape:
            opened, _ = self._open(tape, values, inputs)
        return {number: tf.shape(axes.by_unit(z))[1:] for number, axes, z in _with_axes(opened)}

    def _moments(self, values: Tensors, inputs: Any, targets: Any) -> dict[int, Any]:
        r"""The sums of squares of the outputs of a layer and of :math:`\delta`, of shape (2, units), for each of its variables."""
        with tf.GradientTape() as tape:
            opened, outputs = self._open(tape, values, inputs)
        deltas = gradients(tape, outputs, opened.affine, self._graphs.cotangents(outputs, targets))
        moments: dict[int, Any] = {}
        for place, ((_, axes, z), delta) in enumerate(zip(_with_axes(opened), deltas, strict=True)):
            both = [axes.by_unit(tensor) for tensor in (z, delta)]
            of_site = tf.stack([tf.reduce_sum(tf.square(tensor), axis=(0, 1)) for tensor in both])
            moments |= dict.fromkeys(opened.variables(place), of_site)
        return moments

    def _residuals(
        self, values: Tensors, inputs: Any, targets: Any, signs: dict[int, Any], scales: dict[int, Any]
    ) -> dict[int, Any]:
        r"""Sum :math:`(A_n^T r^{-1} u_n) \circ (A_n^T K_n r u_n)` over examples and u, by the positions of variables among the values.

        Parameters
        ----------
        values, inputs, targets
            The parameter point, and a batch.
        signs
            The perturbations u of some sites, of shape (number of them, examples, positions, output units).
        scales
            The scale r of each of these sites, of shape (output units,).
        """
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as inner:
                opened, outputs = self._open(inner, values, inputs, outer.watch)
            deltas = gradients(inner, outputs, opened.affine, self._graphs.cotangents(outputs, targets))
        totals: dict[int, Any] = {}
        for place, ((number, axes, z), delta) in enumerate(zip(_with_axes(opened), deltas, strict=True)):
            if number in signs:
                scale, image = tf.cast(scales[number], z.dtype), partial(_second_derivative, outer, delta, z)
                add = partial(_with_perturbation, opened, place, axes, scale, image)
                zeros = {index: tf.zeros_like(values[index]) for index in opened.variables(place)}
                with tf.control_dependencies(list(totals.values())):  # one site after the other, to save memory
                    totals |= tf.foldl(add, tf.identity(signs[number]), initializer=zeros)
        return totals

    def _open(
        self, tape: tf.GradientTape, values: Tensors, inputs: Any, watch: Callable[[Any], None] | None = None
    ) -> tuple[OpenedSites, Any]:
        """Run the model, on a tape that records, and return its sites and its outputs."""
        sources = self._graphs.function.sources(values)
        tape.watch(sources)
        with recording(self.sites, watch) as records:
            outputs = self._graphs.function(sources, inputs)
        return OpenedSites(self.sites, records, outputs), outputs


def _with_axes(opened: OpenedSites) -> list[tuple[int, UnitAxes, Any]]:
    """The number of each site, the axes of its units, and its affine outputs."""
    pairs = zip(opened.sites.items(), opened.affine, strict=True)
    return [(number, UnitAxes(site.layer, len(z.shape)), z) for (number, site), z in pairs]


def _second_derivative(tape: tf.GradientTape, delta: Any, z: Any, along: Any) -> Any:
    """K u: one backward pass from the cotangents of a site to its outputs, through what lies above it."""
    (image,) = gradients(tape, delta, [z], along)
    return image


def _with_perturbation(
    opened: OpenedSites,
    place: int,
    axes: UnitAxes,
    scale: Any,
    image: Callable[[Any], Any],
    sums: dict[int, Any],
    drawn: Any,
) -> dict[int, Any]:
    """Add what one perturbation of a site gives for each of its variables."""
    units, z = tf.cast(drawn, scale.dtype), opened.affine[place]
    left, right = axes.in_layout(units / scale, z), image(axes.in_layout(units * scale, z))
    products = opened.products(place, left, right)
    return {index: total + products[index] for index, total in sums.items()}
