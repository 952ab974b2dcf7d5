r"""What is drawn at the outputs of layers, and in which scale: the part of the residual diagonal that all engines share.

An output unit i of a layer has an equivariant scale :math:`r_i = (E z_i^2 / E \delta_i^2)^{1/4}` of its outputs z and their cotangents :math:`\delta`, rounded to a power of two: a
rescaled unit, whose outputs are D times and whose cotangents are 1/D times what they were, has D times the scale, bit by bit. It is what the optimal scale
of (17) is for a row of a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.engine import Arrays, Sums
from invariant_sharpness.prng import Draws, layer_signs
from invariant_sharpness.protocol import LayerUnits, OutputForm

HostArray = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]


class Perturbations(NamedTuple):
    """What the outputs of layers are multiplied with, example by example.

    Parameters
    ----------
    units
        The output units of the layers, by group. Layers none of whose groups are named are left alone.
    draws
        Random signs: which draws, and the number of the batch's first example in the data. None: every unit vector.
    """

    units: Mapping[str, LayerUnits]
    draws: Draws | None

    def of_layer(self, layer: int, examples: int, positions: int, width: int) -> Iterator[Signs]:
        """Yield the signs, or the unit vectors, of a layer: shape (examples, positions, output units)."""
        shape = examples, positions, width
        if self.draws is None:
            for number in range(positions * width):
                vectors = np.zeros((examples, positions * width), dtype=np.int8)
                vectors[:, number] = 1
                yield vectors.reshape(shape)
            return
        numbers, seed, start = self.draws
        for number in numbers:
            yield layer_signs(seed, number, layer, start, examples, positions * width).reshape(shape)


class LayerMoments(NamedTuple):
    """Second moments at the layers that every example of a batch passes once.

    Parameters
    ----------
    squares
        By group of such a layer, the sums of squares of the layer's outputs and of their cotangents, over examples and positions: shape (2, units). A group that enters several
        layers, with different entries, has the units of all of them, one after the other.
    outputs
        By the same groups, the number of outputs of the layer for one example.
    """

    squares: Mapping[str, Any]
    outputs: Mapping[str, int]


class LayerPoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.ResidualDiagonalOracle`."""

    def layer_moments(self, batch: Any, /) -> LayerMoments:
        r"""Sum the squares of the outputs of layers, and of :math:`\delta_n`, the derivatives of :math:`\langle c_n, z_n \rangle` in them.

        :math:`c_n = w_n \partial \ell_n / \partial z_n` are constants. Layers are those that every example of the batch passes once, and in whose own parameters their
        outputs are affine.
        """
        ...

    def residual_squares(self, perturbations: Perturbations, batch: Any, /) -> Sums:
        r"""Sum :math:`(A_n^T r^{-1} u_n) \circ (A_n^T K_n r u_n)` over examples and perturbations u, for the groups of ``perturbations.units``.

        :math:`A_n` is the derivative of the layer's outputs in its parameters, and :math:`K_n u = \partial \langle \delta_n, u \rangle / \partial` (outputs of the layer).
        """
        ...


class ResidualPoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.ResidualProductOracle`."""

    def residual_products(self, vectors: Sequence[Arrays], names: frozenset[str], batch: Any, /) -> Sums:
        r"""Return the products of the vectors with the block on the named parameters of the Hessian of :math:`\sum_n \langle c_n, z_n \rangle`, where the cotangents :math:`c_n = w_n \partial \ell_n / \partial z_n` are constants."""
        ...


class FormPoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.OutputFormOracle`."""

    def output_form(self, batch: Any, /) -> OutputForm:
        """Return the groups in which the outputs of the batch are curved by the program of the network, and those of which it does not tell."""
        ...


class OneByOnePoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.OneByOneOracle`."""

    def squared_one_by_one(self, batch: Any, /) -> frozenset[str]:
        """Return the groups whose ``squares`` take one example of the batch at a time."""
        ...


class NodePoint(Protocol):
    """What a point of an engine has beyond, if the engine offers :class:`invariant_sharpness.protocol.NodeCurvatureOracle`."""

    def node_counts(self, batch: Any, /) -> Mapping[str, int]:
        """Return how many nonlinear operations are above the layer of a group, for groups of layers above which the second derivative of every operation is known."""
        ...

    def node_squares(self, names: frozenset[str], draws: Draws, batch: Any, /) -> Sums:
        r"""Sum :math:`(J_{nu}^T w^a_{nu}) \circ (J_{nu}^T w^b_{nu})` over examples n, nonlinear operations u and draws, for the named groups.

        :math:`J_{nu}` is the derivative of the operation's argument in the group, and the random factors have
        :math:`E[w^a w^{bT} + w^b w^{aT}] = 2 M_{nu}`, the second derivative of the operation along :math:`\partial \langle c_n, z_n \rangle / \partial` (its result).
        Signs are those of :func:`invariant_sharpness.prng.node_signs`.
        """
        ...


class HostMoments(NamedTuple):
    """The moments of a batch, or of several, on the host."""

    squares: Mapping[str, HostArray]
    outputs: Mapping[str, int]


def merged(batches: Sequence[HostMoments]) -> HostMoments:
    """Return the moments of all batches, for those layers that are in every one."""
    first, *others = (batch.outputs for batch in batches)
    common = [name for name in first if all(name in outputs for outputs in others)]
    return HostMoments(
        {name: np.sum([batch.squares[name] for batch in batches], axis=0) for name in common},
        {name: max(batch.outputs[name] for batch in batches) for name in common},
    )


def units_of(batches: Sequence[HostMoments]) -> dict[str, LayerUnits]:
    """Return the output units of those layers that are in every batch."""
    squares, outputs = merged(batches)
    return {name: LayerUnits(_scale(array), outputs[name]) for name, array in squares.items()}


def _scale(squares: HostArray) -> HostArray:
    """Return the scales as powers of two, with their median at one; a unit without the one or the other takes what is typical of the layer."""
    outputs, cotangents = squares
    known = (outputs > 0) & (cotangents > 0)
    with np.errstate(divide="ignore"):
        larger, smaller = np.log2(outputs) / 2, np.log2(cotangents) / 2
    typical = float(np.median(larger[known] + smaller[known])) if known.any() else 0.0
    larger = np.where(outputs > 0, larger, np.where(cotangents > 0, typical - smaller, 0.0))
    smaller = np.where(cotangents > 0, smaller, typical - larger)
    logarithms = (larger - smaller) / 2
    return np.exp2(np.round(logarithms) - np.round(np.median(logarithms)))
