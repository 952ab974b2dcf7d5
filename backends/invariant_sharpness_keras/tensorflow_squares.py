r"""Sums over examples of squared Jacobian products, :math:`\sum_{nk} s_{nk} (J_n^T c_{nk})^2`, parameter by parameter, on TensorFlow.

For each term one backward pass carries the cotangents of all examples to the layers that have a rule (``layer_squares``). A
rule is trusted only after it has been tested on the model. All other parameters take the general path: each example by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.losses.positions import Term
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.layer_sites import Site, possible_sites, recording
from invariant_sharpness_keras.layer_squares import RULES
from invariant_sharpness_keras.opened_sites import OpenedSites
from invariant_sharpness_keras.tensorflow_graphs import Graphs
from invariant_sharpness_keras.tensorflow_models import Tensors
from invariant_sharpness_keras.tensorflow_site_graphs import SiteGraphs
from invariant_sharpness_keras.trusted_rules import disagreements, nudged

Array = npt.NDArray[Any]
Run = Callable[..., Any]
"""Calls a graph, at a parameter point, with arguments of the host."""

_TEST_EXAMPLES = 8

_TERMS = 9
"""So many terms share a graph, all those of ten classes; more of them save little, and take longer to compile."""

_CACHED, _FEWEST = 2**24, 16
"""On a CPU so many bytes are held and made at once, which stay in its cache and in memory that the C library uses again; for fewer examples than 16 the calls of the graph would cost more than that saves."""


class LayerSquares:
    """Squares of one model's parameters, which are told by their positions.

    Parameters
    ----------
    model
        A ``keras.Model``; of anything else, all parameters take the general path.
    graphs
        Its derivatives.
    """

    def __init__(self, model: Any, graphs: Graphs) -> None:
        self._model = model
        self._graphs = graphs
        self._at: SiteGraphs | None = None
        self._entries = 0

    def __call__(
        self, run: Run, values: Tensors, wanted: frozenset[int], inputs: Any, terms: Iterator[Term], like: Array
    ) -> dict[int, Any]:
        """Return the sums for the wanted parameters, and perhaps for others.

        Parameters
        ----------
        run, values
            The parameter point.
        wanted
            Positions of parameters.
        inputs
            Of a batch.
        terms
            Signs ``(n,)`` and cotangents of the shape of the outputs.
        like
            The outputs.
        """
        at = self.sites(run, values, inputs)
        total: dict[int, Any] = {}
        for signs, cotangents in _blocks(terms, like):
            found = self._of_block(run, at, wanted, inputs, signs, cotangents)
            total = {index: total[index] + array if total else array for index, array in found.items()}
        return total

    def sites(self, run: Run, values: Tensors, inputs: Any) -> SiteGraphs:
        """Return the sites whose rules give what the general path gives; tested once, on the first examples of these inputs."""
        if self._at is None:
            self._at = self._trusted(run, self._open_sites(values, head := take(inputs, 0, _TEST_EXAMPLES)), head)
        return self._at

    def examples_at_once(self, itemsize: int) -> int:
        """How many examples the memory limit allows at the sites, in numbers of this size."""
        return chunks_within_limit(self._entries * itemsize)

    def _squared_at_once(self, itemsize: int) -> int:
        """Return how many examples are squared at once: all that the memory limit allows on a GPU, and on a CPU no more than its cache holds."""
        most = self.examples_at_once(itemsize)
        if tf.config.list_logical_devices("GPU"):
            return most
        return min(most, max(_FEWEST, _CACHED // max(1, self._entries * itemsize)))

    def _of_block(
        self, run: Run, at: SiteGraphs, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array
    ) -> dict[int, Any]:
        found = self._by_rules(run, at, inputs, signs, cotangents) if at.sites else {}
        if wanted <= found.keys():
            return found
        parts = [run(self._graphs.squares_one_by_one, inputs, *term) for term in zip(signs, cotangents, strict=True)]
        return dict(enumerate(map(sum, zip(*parts, strict=True)))) | found

    def _by_rules(self, run: Run, at: SiteGraphs, inputs: Any, signs: Array, cotangents: Array) -> dict[int, Any]:
        """As many examples at once as the memory limit allows, and as many terms as one graph has."""
        total: dict[int, Any] = {}
        for rows in equal_parts(batch_size(inputs), self._squared_at_once(cotangents.itemsize)):
            part = take(inputs, rows.start, rows.stop)
            for terms in equal_parts(len(signs), _TERMS):
                found = run(at.squares, part, list(signs[terms, rows]), list(cotangents[terms, rows]))
                total = {index: total[index] + array if total else array for index, array in found.items()}
        return total

    def _trusted(self, run: Run, sites: Sequence[Site], inputs: Any) -> SiteGraphs:
        """Trust the rules that give what the general path gives, on a few examples."""
        at = SiteGraphs(self._graphs, sites)
        if not sites:
            return at
        like = np.array(run(self._graphs.outputs, inputs))
        signs = np.ones(len(like))
        cotangents = np.cos(np.arange(like.size) + 1.0).reshape(like.shape).astype(like.dtype)
        found = run(at.squares, inputs, [signs], [cotangents])

        def one_by_one(inputs: Any) -> list[Array]:
            return [np.array(array) for array in run(self._graphs.squares_one_by_one, inputs, signs, cotangents)]

        squares = {index: np.array(array) for index, array in found.items()}
        wrong = disagreements(squares, one_by_one(inputs), lambda: one_by_one(nudged(inputs)))
        right = [site for site in sites if not wrong & set(site.variables.values())]
        return at if len(right) == len(sites) else SiteGraphs(self._graphs, right)

    def _open_sites(self, values: Tensors, inputs: Any) -> list[Site]:
        """Find the layers with a rule that a forward pass goes through."""
        sites = possible_sites(self._model, RULES)
        if not sites:
            return []
        with recording(sites) as records:
            outputs = inference.outputs(self._model, values, inference.constants(self._model), inputs)
        opened = OpenedSites(sites, records, outputs)
        self._entries = opened.entries
        return list(opened.sites.values())


def equal_parts(count: int, most: int) -> list[slice]:
    """Return slices of about equal length, none of which is longer than ``most``."""
    parts = -(-count // most)
    return [slice(start, end) for start, end in pairwise(count * part // parts for part in range(parts + 1))]


def _blocks(terms: Iterator[Term], outputs: Array) -> Iterator[tuple[Array, Array]]:
    """The terms, as many in one pair of arrays as the memory limit allows."""
    size = chunks_within_limit(outputs.nbytes)
    while block := list(islice(terms, size)):
        signs, cotangents = zip(*block, strict=True)
        yield np.stack(signs), np.stack(cotangents).astype(outputs.dtype)
