"""A metric: a function ``oracle -> Estimate`` that carries its declaration, from which tables and pages are made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import WRAPPER_ASSIGNMENTS, cached_property, partial
from types import MethodType
from typing import Any, Generic, ParamSpec, cast

from invariant_sharpness.arguments import check_numbers, require_oracle
from invariant_sharpness.metrics.difference_errors import with_difference_error
from invariant_sharpness.metrics.options import Choices, check_choices, check_names, choices_of, keywords_of
from invariant_sharpness.metrics.shared_diagonal import require_diagonal
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.symmetries.invariances import SYMMETRIES, Invariance, NamedSymmetry

P = ParamSpec("P")


@dataclass(frozen=True, eq=False, repr=False)
class Metric(Generic[P]):
    r"""A metric: the function that measures, together with its declaration.

    It is called, documented, inspected, copied and pickled as the function itself; ``ish.hessian_trace`` and
    ``ish.METRICS["hessian_trace"]`` are one object. Metrics are made by :func:`metric`.

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
        The strongest changes that leave the value alone: with the same seed it is the same, up to rounding and the tolerance of
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
    version
        Version of the definition: it grows when the same network gets another value for another reason than rounding.
    invariances_with
        The invariances under other choices of an option, where they differ: ``{"biases": {"column": {...}}}``.
    is_declared
        Whether its author says what leaves the value alone. Of a plain function nobody does.

    Examples
    --------
    The trace of the Hessian diag(1, 2) is 3:

    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.diag([1.0, 2.0]), np.array([[3.0, 4.0]]))
    >>> ish.METRICS["hessian_trace"](oracle).value
    3.0
    >>> ish.hessian_trace.symbol
    '\\operatorname{tr} H'
    """

    name: str
    function: Callable[P, Estimate]
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
    version: int = 1
    invariances_with: Mapping[str, Mapping[str, frozenset[Invariance]]] = field(default_factory=dict)
    is_declared: bool = True

    def __post_init__(self) -> None:
        """Take over what tells of a function, so that help, inspect, doctest, Sphinx and pickle find it."""
        inner = self.function if self.base is self else self.base
        own: dict[str, Any] = {word: getattr(inner, word) for word in WRAPPER_ASSIGNMENTS if hasattr(inner, word)}
        vars(self).update(own, __wrapped__=self.function, __name__=self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Estimate:
        """Measure an oracle, which is the first argument; the options are those of the signature."""
        check_choices(self.choices, kwargs)
        check_numbers(self.function, kwargs)
        for oracle in args[:1]:
            require_oracle(oracle)
            require_diagonal(oracle, kwargs.get("diagonal"))
        estimate = with_difference_error(self.function, args, kwargs)
        return replace(estimate, name=self.name) if self.settings else estimate

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as a function does: what can be bound is a function to the inspect module."""
        return self if instance is None else MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by name what can be imported by name."""
        path = vars(self).get("__qualname__", self.name)
        if getattr(sys.modules.get(self.__module__), path, None) is self:
            return path
        return super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<metric {self.name}>"

    def with_options(
        self, *, name: str | None = None, invariances: Collection[Invariance] | None = None, **options: Any
    ) -> Metric[P]:
        """Make the same metric with other defaults, which can be measured beside this one in one report.

        Parameters
        ----------
        name
            Name of the new metric and of its estimates. Default: this name with the options in parentheses.
        invariances
            What leaves the value alone with these options. Default: what the declaration says of them.
        options
            Keywords of the function, such as ``biases="column"``. What is given in a call goes before them.

        Returns
        -------
        Metric
            The configured metric.

        Raises
        ------
        TypeError
            If there is no such option; lists the options.
        ArgumentError
            If an option has no such choice; lists the choices.

        Examples
        --------
        At lambda = 2 normalized sharpness is half of what it is at the default, 1/2:

        >>> import numpy as np
        >>> import invariant_sharpness as ish
        >>> from invariant_sharpness_numpy import quadratic
        >>> oracle = quadratic(np.diag([1.0, 4.0]), np.array([[1.0], [1.0]]))
        >>> at_two = ish.normalized_sharpness.with_options(lam=2.0, name="at_two")
        >>> report = ish.measure(oracle, [ish.normalized_sharpness, at_two])
        >>> {name: round(estimate.value, 9) for name, estimate in report.items()}
        {'normalized_sharpness': 6.0, 'at_two': 3.0}
        """
        base = self.base
        check_names(self.name, keywords_of(base), options)
        check_choices(base.choices, options)
        check_numbers(base.function, options)
        settings = {**self.settings, **options}
        own = [self.invariances_with[o][v] for o, v in settings.items() if v in self.invariances_with.get(o, ())]
        declared = frozenset.intersection(*own) if own else base.invariances
        function = partial(base, **settings)
        return replace(
            self,
            name=_definition(base.name, settings) if name is None else name,
            function=cast("Callable[P, Estimate]", function),
            invariances=declared if invariances is None else frozenset(invariances),
        )

    @property
    def base(self) -> Metric[P]:
        """The metric that :meth:`with_options` made this one of; or itself."""
        inner = self.function.func if isinstance(self.function, partial) else self
        return inner if isinstance(inner, Metric) else self

    @property
    def settings(self) -> Mapping[str, Any]:
        """The options that :meth:`with_options` has fixed."""
        return self.function.keywords if isinstance(self.function, partial) and self.base is not self else {}

    @property
    def definition(self) -> str:
        """What is measured, in words: name, options, and version of the definition if its author gives one."""
        options = _definition(self.base.name, self.settings)
        return f"{options} v{self.version}" if self.is_declared else options

    @property
    def options(self) -> frozenset[str]:
        """The keywords of the function that are not fixed."""
        return frozenset(keywords_of(self.function))

    @cached_property
    def choices(self) -> Choices:
        """The values that an option may have, for each option that has few."""
        return choices_of(self.function)

    @property
    def unchanged_by(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries under which the value stays."""
        return tuple(s for s in SYMMETRIES if s.covered_by & self.invariances and s.name not in self.up_to_error)

    @property
    def unchanged_up_to_error(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries under which the value stays up to its standard error."""
        return tuple(s for s in SYMMETRIES if s.name in self.up_to_error)

    @property
    def changed_by(self) -> tuple[NamedSymmetry, ...]:
        """The symmetries that change the value: all others."""
        return tuple(s for s in SYMMETRIES if s not in self.unchanged_by and s.name not in self.up_to_error)

    survives, stays_up_to_its_error, moves = unchanged_by, unchanged_up_to_error, changed_by


def _definition(name: str, settings: Mapping[str, Any]) -> str:
    options = ", ".join(f"{option}={_in_words(value)}" for option, value in settings.items())
    return f"{name}({options})" if options else name


def _in_words(value: Any) -> str:
    """Write numbers and strings as they are, and all else by its name or its type."""
    plain = value is None or isinstance(value, (str, int, float))
    return repr(value) if plain else getattr(value, "__name__", type(value).__name__)
