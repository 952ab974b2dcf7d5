"""What a metric declares about itself: the one place that tables and pages are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Literal

from invariant_sharpness.estimate import Estimate

Invariance = Literal["layer", "row_column", "diagonal", "linear"]
"""Rescalings and moves of parameters that leave the function alone.

``layer``
    One factor per layer, with product 1 (Dinh et al. 2017).
``row_column``
    One factor per hidden unit: into its row, out of its column (Tsuzuku et al. 2019, (15)-(16)).
``diagonal``
    Any factor per parameter that leaves the function alone.
``linear``
    Any linear map of the parameters that leaves the function alone.
"""

BiasPolicy = Literal["exclude", "column", "parameterwise"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Declaration of a metric.

    Parameters
    ----------
    name
        Public name, also of the function.
    function
        ``oracle -> Estimate``.
    symbol, equation
        In LaTeX, as in the source.
    summary
        One sentence: what it measures.
    needs
        The derivatives that it takes from the oracle.
    cost
        In gradients of the whole data set.
    invariances
        What it claims not to see. Everything that is not listed moves it.
    reference
        Where it was defined.
    default
        Whether :func:`invariant_sharpness.measure` includes it if nothing else is asked for.
    """

    name: str
    function: Callable[..., Estimate]
    symbol: str
    equation: str
    summary: str
    needs: str
    cost: str
    invariances: frozenset[Invariance]
    reference: str
    default: bool = True

    @property
    def options(self) -> frozenset[str]:
        """The keywords of the function."""
        return frozenset(list(signature(self.function).parameters)[1:])
