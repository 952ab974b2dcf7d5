"""What a metric declares about itself: the one place that tables and pages are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Literal

from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.symmetries.claims import SYMMETRIES, Invariance, NamedSymmetry

BiasPolicy = Literal["exclude", "column", "parameterwise"]

COST_OF_DIAGONAL = "3 to 8 gradients for ten outputs where the diagonal is exact, else 64 products, 80 to 200 gradients"
"""As measured in three frameworks, where one product with the Hessian costs 1.3 to 3.1 gradients."""

_TESTS = "tests/metrics/test_every_invariance.py"


@dataclass(frozen=True, slots=True)
class Metric:
    r"""Declaration of a metric.

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
        The strongest claims of what it does not see: with the same seed the value is the same, up to rounding and the tolerance of
        iterations. A Hessian diagonal that has to be sampled follows layers, rows and columns draw by draw, and all else up to its
        standard error.
    pitfalls
        What goes wrong with it, and when. Plain text in reStructuredText, with ``:math:`` roles.
    reference
        Where it was defined.
    up_to_error
        Names of symmetries under which it stays up to its standard error only: other numbers are drawn for the same unit, or rounding decides
        where a fit ends.
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
    pitfalls: str
    reference: str
    up_to_error: frozenset[str] = frozenset()
    default: bool = True

    @property
    def options(self) -> frozenset[str]:
        """The keywords of the function."""
        return frozenset(list(signature(self.function).parameters)[1:])

    @property
    def survives(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries under which the value stays."""
        return tuple(s for s in SYMMETRIES if s.claims & self.invariances and s.name not in self.up_to_error)

    @property
    def stays_up_to_its_error(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries under which the value stays up to its standard error."""
        return tuple(s for s in SYMMETRIES if s.name in self.up_to_error)

    @property
    def moves(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries that move the value: all others."""
        return tuple(s for s in SYMMETRIES if s not in self.survives and s.name not in self.up_to_error)

    def test(self, symmetry: NamedSymmetry) -> str:
        """The test that holds the metric to what it declares of this symmetry, as pytest names it."""
        if symmetry.name in self.up_to_error:
            what = "test_metric_stays_up_to_its_error"
        else:
            what = "test_metric_survives" if symmetry in self.survives else "test_metric_moves"
        return f"{_TESTS}::{what}[{self.name}-{symmetry.name}]"
