r"""The diagonal of the residual part R of the Hessian on TensorFlow, layer by layer and example by example.

R is the Hessian of :math:`\sum_n \langle c_n, f(x_n) \rangle` with constant cotangents. Perturbations of the layers' outputs are made on the host; a graph takes those of all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.adapters.data import Batch, batch_size, take
from invariant_sharpness.adapters.layers import LayerMoments, Perturbations, Signs
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.prng import layer_number
from invariant_sharpness_keras.tensorflow_models import Tensors
from invariant_sharpness_keras.tensorflow_site_graphs import SiteGraphs
from invariant_sharpness_keras.tensorflow_squares import LayerSquares, Run

_SIGNS = 2**26
"""So many signs are made before a graph takes them, or one perturbation of each layer if that is more."""


class LayerResiduals:
    """What the residual part is made of, at the layers of one model.

    Parameters
    ----------
    groups
        The parameters that are measured, in the order of the model.
    squares
        The squares of the same model, which test its layers.
    """

    def __init__(self, groups: tuple[ParameterGroup, ...], squares: LayerSquares) -> None:
        self._groups = groups
        self._squares = squares

    def moments(self, run: Run, values: Tensors, batch: Batch) -> LayerMoments:
        """Sum the squares of the outputs of the layers, and of their cotangents, unit by unit."""
        at = self._squares.sites(run, values, batch.inputs)
        shapes = _shapes(run, at, batch)
        moments = run(at.moments, batch.inputs, batch.targets)
        numbers = {index: number for number, site in enumerate(at.sites) for index in site.variables.values()}
        outputs = {index: positions * width for index in moments for positions, width in [shapes[numbers[index]]]}
        return LayerMoments(self._by_name(moments), self._by_name(outputs))

    def sums(self, run: Run, values: Tensors, perturbations: Perturbations, batch: Batch) -> dict[str, Any]:
        """Sum the products of what perturbations of a layer's outputs, and their images under K, make of the layer's parameters."""
        at = self._squares.sites(run, values, batch.inputs)
        total = [np.zeros_like(value) for value in values]
        step = self._squares.examples_at_once(total[0].itemsize)
        for signs, scales in self._blocks(run, at, perturbations, batch):
            for start in range(0, batch_size(batch), step):
                part, rows = take(batch, start, start + step), slice(start, start + step)
                own = {number: stacked[:, rows] for number, stacked in signs.items()}
                for index, found in run(at.residuals, part.inputs, part.targets, own, scales).items():
                    total[index] = total[index] + found
        named = self._by_name(dict(enumerate(total)))
        return {name: array for name, array in named.items() if name in perturbations.units}

    def _blocks(
        self, run: Run, at: SiteGraphs, perturbations: Perturbations, batch: Batch
    ) -> Iterator[tuple[dict[int, npt.NDArray[np.int8]], dict[int, npt.NDArray[np.float64]]]]:
        """Yield perturbations of the sites with groups that are asked for, some of each on the first axis; and their scales.

        A site that has no more is left out.
        """
        scales: dict[int, npt.NDArray[np.float64]] = {}
        drawn: dict[int, Iterator[Signs]] = {}
        size, entries = batch_size(batch), 1
        for number, (positions, width) in _shapes(run, at, batch).items():
            names = {self._groups[index].name for index in at.sites[number].variables.values()}
            for name in names & perturbations.units.keys():
                scales[number] = perturbations.units[name].scale  # the same of all groups of a layer
            if number in scales:
                layer = layer_number(self._groups, names)
                drawn[number] = perturbations.of_layer(layer, size, positions, width)
                entries += size * positions * width
        most = max(1, _SIGNS // entries)
        while block := {
            number: np.stack(some) for number, signs in drawn.items() if (some := list(islice(signs, most)))
        }:
            yield block, {number: scales[number] for number in block}

    def _by_name(self, values: Mapping[int, Any]) -> dict[str, Any]:
        return {self._groups[index].name: value for index, value in values.items()}


def _shapes(run: Run, at: SiteGraphs, batch: Batch) -> dict[int, tuple[int, int]]:
    """The numbers of positions and of output units, of the sites that this batch goes through once."""
    return {number: (int(shape[0]), int(shape[1])) for number, shape in run(at.shapes, batch.inputs).items()}
