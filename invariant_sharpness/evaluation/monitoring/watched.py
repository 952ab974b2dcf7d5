"""The model that is trained, as an oracle on the probe data: built once, and anew where the loop has another model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from invariant_sharpness.adapters.evaluation_mode import in_evaluation_mode
from invariant_sharpness.adapters.registry import oracle as make_oracle
from invariant_sharpness.coordinates import Moved, Restricted
from invariant_sharpness.errors import ArgumentError, InvariantSharpnessError
from invariant_sharpness.protocol import CurvatureOracle, innermost


class Watched:
    """Makes the oracle of whatever model the loop has, in evaluation mode.

    Parameters
    ----------
    data, loss, options
        As :func:`invariant_sharpness.oracle` takes them.
    """

    def __init__(self, data: Any, loss: Any, options: dict[str, Any]) -> None:
        self._data, self._loss, self._options = data, loss, dict(options)
        self._patterns = self._options.pop("parameters", None)
        self._model: Any = None
        self._made: CurvatureOracle | None = None
        self._form: tuple[tuple[str, ...], ...] = ()

    @property
    def has_built(self) -> bool:
        """Whether model, data and loss have fitted together before."""
        return self._made is not None

    @contextmanager
    def oracle(self, model: Any, parameters: Any) -> Generator[CurvatureOracle]:
        """The oracle of a model inside the ``with`` block; at these parameters, if the model is a function of them."""
        with in_evaluation_mode(getattr(innermost(model), "model", model) if _is_oracle(model) else model):
            found = self._reused(model, parameters) or self._built(model, parameters)
            yield found if self._patterns is None else Restricted(found, self._patterns)

    def _reused(self, model: Any, parameters: Any) -> CurvatureOracle | None:
        """The oracle that is there, unless it is of another model, or the model has other parameters, of another type or elsewhere."""
        made = self._made
        if made is None or model is not self._model or "dtype" in self._options:  # which measures a copy
            return None
        try:
            moved = made if parameters is None else Moved(made, made.from_tree(parameters))  # type: ignore[attr-defined]
            return moved if moved.parameters.form == self._form else None
        except InvariantSharpnessError:
            return None

    def _built(self, model: Any, parameters: Any) -> CurvatureOracle:
        made = self._made_of(model, parameters)
        self._model, self._made, self._form = model, made, made.parameters.form
        return made

    def _made_of(self, model: Any, parameters: Any) -> CurvatureOracle:
        if _is_oracle(model):
            return model
        if self._data is None:
            msg = "the monitor has no data to measure on: make it by Monitor(metrics, data=(x, y)), or give an oracle in the place of the model"
            raise ArgumentError(msg)
        given = self._options if parameters is None else {**self._options, "parameters": parameters}
        return make_oracle(model, self._data, self._loss, **given)


def _is_oracle(model: Any) -> bool:
    return hasattr(model, "hessian_vector_product")
