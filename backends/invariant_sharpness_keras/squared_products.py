r"""Sums over examples of squared Jacobian products, :math:`\sum_{nk} s_{nk} (J_n^T c_{nk})^2`, variable by variable.

For each term one backward pass carries the cotangents of all examples to the layers that have a rule (``layer_squares``). A
rule is trusted only after it has been tested on the model. All other variables take the general path: each example by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from keras import ops

from invariant_sharpness.adapters.data import batch_size, take
from invariant_sharpness.runtime.memory import chunks_within_limit
from invariant_sharpness_keras import inference
from invariant_sharpness_keras.engines import Array, Arrays
from invariant_sharpness_keras.layer_sites import Site, possible_sites, recording
from invariant_sharpness_keras.layer_squares import RULES
from invariant_sharpness_keras.opened_sites import OpenedSites

_TEST_EXAMPLES = 8

AtSites = Callable[[Arrays, Any, Array, Array], dict[int, Array]]
"""``(values, inputs, signs, cotangents) -> sums of squares``, by the positions of the variables among the values."""


class SiteEngine(Protocol):
    """The two ways in which an engine takes squares."""

    def squares_at(self, sites: Sequence[Site], /) -> AtSites:
        """Squares of the variables at the sites, of those that a forward pass goes through; all examples at once."""
        ...

    def squares_one_by_one(self, values: Arrays, inputs: Any, signs: Array, cotangents: Array, /) -> Arrays:
        """Squares of all variables for one term, one example at a time."""
        ...


class SquaredProducts:
    """Squares of one model's variables.

    Parameters
    ----------
    model
        A ``keras.Model``; of anything else, all variables take the general path.
    engine
        Differentiates it.
    """

    def __init__(self, model: Any, engine: SiteEngine) -> None:
        self._model = model
        self._engine = engine
        self._at_sites: AtSites | None = None
        self._entries = 0

    def __call__(
        self, values: Arrays, wanted: frozenset[int], inputs: Any, signs: Array, cotangents: Array
    ) -> dict[int, Array]:
        """The sums for the wanted variables, and perhaps for others.

        Parameters
        ----------
        values
            Of the variables.
        wanted
            Positions of variables among the values.
        inputs
            Of a batch.
        signs, cotangents
            Of shapes ``(terms, n)`` and ``(terms, n, ...)``.
        """
        if self._at_sites is None:
            self._at_sites = self._tested(values, take(inputs, 0, _TEST_EXAMPLES), cotangents[0, :_TEST_EXAMPLES])
        found = self._in_parts(self._at_sites, values, inputs, signs, cotangents)
        if wanted <= found.keys():
            return found
        parts = [self._engine.squares_one_by_one(values, inputs, *term) for term in zip(signs, cotangents, strict=True)]
        return dict(enumerate(_added(parts))) | found

    def _tested(self, values: Arrays, inputs: Any, like: Array) -> AtSites:
        """Squares at the sites whose rules give what the general path gives, on a few examples with these cotangents."""
        surveyed = self._survey(values, inputs)
        if not surveyed.sites:
            return _nowhere
        self._entries = surveyed.entries
        signs = np.ones(len(like))
        cotangents = np.cos(np.arange(like.size) + 1.0).reshape(like.shape).astype(like.dtype)
        at_all = self._engine.squares_at(surveyed.sites)
        found = at_all(values, inputs, signs[None], cotangents[None])
        expected = self._engine.squares_one_by_one(values, inputs, signs, cotangents)
        largest = max(float(np.abs(array).max()) for array in expected)
        wrong = {index for index, array in found.items() if not _close(array, expected[index], largest, like.dtype)}
        trusted = [site for site in surveyed.sites if not wrong & set(site.variables.values())]
        if not wrong:
            return at_all
        return self._engine.squares_at(trusted) if trusted else _nowhere

    def _survey(self, values: Arrays, inputs: Any) -> OpenedSites:
        """The layers with a rule that a forward pass goes through."""
        sites = possible_sites(self._model, RULES)
        if not sites:
            return OpenedSites([], [], None)
        tensors = [ops.convert_to_tensor(value) for value in values]
        with recording(sites) as records:
            outputs = inference.outputs(self._model, tensors, inference.constants(self._model), inputs)
        return OpenedSites(sites, records, outputs)

    def _in_parts(
        self, at_sites: AtSites, values: Arrays, inputs: Any, signs: Array, cotangents: Array
    ) -> dict[int, Array]:
        """As many examples at once as the memory limit allows."""
        size = batch_size(inputs)
        step = chunks_within_limit(self._entries * cotangents.itemsize)
        total: dict[int, Array] = {}
        for start in range(0, size, step):
            rows = slice(start, start + step)
            part = at_sites(values, take(inputs, start, start + step), signs[:, rows], cotangents[:, rows])
            total = {index: total[index] + array if index in total else array for index, array in part.items()}
        return total


def _nowhere(*_: Any) -> dict[int, Array]:
    return {}


def _added(parts: Sequence[Arrays]) -> Arrays:
    return [np.sum(arrays, axis=0) for arrays in zip(*parts, strict=True)]


def _close(a: Array, b: Array, largest: float, dtype: np.dtype[Any]) -> bool:
    """Equal to rounding. Beside the largest square of all variables, those of a zero derivative are rounding alone."""
    eps = float(np.finfo(dtype).eps)
    tolerance = eps**0.5
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance * float(np.abs(b).max()) + eps * largest))
