"""A feed-forward ReLU network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness_numpy.derivatives import forward
from invariant_sharpness_numpy.examples import checked_inputs
from invariant_sharpness_numpy.layers import Array, Layer, bias_name, weight_name


@dataclass(frozen=True, slots=True, eq=False)
class ReluNetwork:
    r"""The network :math:`f(x) = W_d\,\phi(\dots \phi(W_1 x + b_1) \dots) + b_d` with :math:`\phi(z) = \max(z, 0)`.

    The arrays are copied as float64, and the copies cannot be written to.

    Parameters
    ----------
    weights
        One matrix per layer, of shape (outputs, inputs).
    biases
        One vector per layer, or None for a network without biases.

    Raises
    ------
    ModelError
        If there is no layer, or shapes do not fit together; names the layer.
    NonFiniteError
        If an entry is NaN or infinite; names the layer.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...] | None = None

    def __post_init__(self) -> None:
        weights = tuple(_copied(W, weight_name(index)) for index, W in enumerate(self.weights))
        _check_weights(weights)
        object.__setattr__(self, "weights", weights)
        if self.biases is not None:
            biases = tuple(_copied(b, bias_name(index)) for index, b in enumerate(self.biases))
            _check_biases(weights, biases)
            object.__setattr__(self, "biases", biases)

    @classmethod
    def initialize(cls, sizes: Sequence[int], *, seed: int, biases: bool = True) -> ReluNetwork:
        r"""Random weights :math:`W_{ij} \sim N(0, 2 / \text{inputs})` and zero biases (He et al. 2015).

        Parameters
        ----------
        sizes
            Numbers of inputs, of the units of each hidden layer, and of outputs.
        seed
            Of the random weights.
        biases
            Whether the layers have biases.

        Raises
        ------
        ModelError
            If there are fewer than two sizes, or one is not positive.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            msg = f"sizes={tuple(sizes)}, but a network needs at least inputs and outputs, each at least 1"
            raise ModelError(msg)
        random = np.random.default_rng(seed)
        shapes = [(outputs, inputs) for inputs, outputs in pairwise(sizes)]
        weights = tuple(random.standard_normal(shape) * np.sqrt(2 / shape[1]) for shape in shapes)
        return cls(weights, tuple(np.zeros(outputs) for outputs, _ in shapes) if biases else None)

    @property
    def layers(self) -> list[Layer]:
        """The layers; a missing bias is zero."""
        biases = self.biases or tuple(np.zeros(len(W)) for W in self.weights)
        return [Layer(W, b) for W, b in zip(self.weights, biases, strict=True)]

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return self.weights[0].shape[1]

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.weights[-1].shape[0]

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Outputs of shape (n, outputs) for ``x`` of shape (n, inputs).

        Raises
        ------
        DataError
            If ``x`` has another shape, or is complex.
        NonFiniteError
            If an entry of ``x`` is NaN or infinite; names the row.
        """
        return forward(self.layers, checked_inputs(x, self.inputs)).outputs


def _copied(values: Any, name: str) -> Array:
    if np.iscomplexobj(values):
        msg = f"{name} is complex, but the parameters of a network are real: split real and imaginary parts"
        raise ModelError(msg)
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        msg = f"{name} has NaN or infinite entries: there is no curvature to measure; train it again from finite values"
        raise NonFiniteError(msg)
    array.setflags(write=False)
    return array


def _check_weights(weights: tuple[Array, ...]) -> None:
    if not weights:
        msg = "weights is empty, but a network has at least one layer: give one (outputs, inputs) matrix for each"
        raise ModelError(msg)
    for index, W in enumerate(weights):
        if W.ndim != 2 or W.size == 0:
            msg = f"{weight_name(index)} has shape {W.shape}, but it has to be a matrix (outputs, inputs) with entries"
            raise ModelError(msg)
    for index, (below, above) in enumerate(pairwise(weights)):
        if above.shape[1] != below.shape[0]:
            msg = (
                f"{weight_name(index + 1)} has shape {above.shape} and takes {above.shape[1]} inputs, but "
                f"{weight_name(index)} has shape {below.shape} and {below.shape[0]} outputs"
            )
            raise ModelError(msg)


def _check_biases(weights: tuple[Array, ...], biases: tuple[Array, ...]) -> None:
    if len(biases) != len(weights):
        msg = (
            f"there are {len(weights)} weights and {len(biases)} biases: give one bias per layer, or None for no biases"
        )
        raise ModelError(msg)
    for index, (W, b) in enumerate(zip(weights, biases, strict=True)):
        if b.shape != (len(W),):
            msg = f"{bias_name(index)} has shape {b.shape}, but the layer has {len(W)} outputs: give shape ({len(W)},)"
            raise ModelError(msg)
