"""The options of a metric: its keywords, the choices of those that have few, and the errors for all others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial
from inspect import Parameter, signature, unwrap
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from invariant_sharpness.errors import ArgumentError, ArgumentTypeError

_BY_KEYWORD = (Parameter.KEYWORD_ONLY, Parameter.POSITIONAL_OR_KEYWORD)

Choices = Mapping[str, tuple[Any, ...]]
"""The values that an option may have, by its name."""


def keywords_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of what a function takes by keyword after the oracle, but for those that a ``partial`` has fixed."""
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        return ()
    inner = unwrap(function)
    fixed = inner.keywords if isinstance(inner, partial) else {}
    return tuple(p.name for p in parameters[1:] if p.kind in _BY_KEYWORD and p.name not in fixed)


def choices_of(function: Callable[..., Any]) -> Choices:
    """Return the values of every option whose annotation is a ``Literal``, or a ``Literal`` or None."""
    try:
        hints = get_type_hints(unwrap(function))
    except (NameError, TypeError, AttributeError):  # annotations of others that only a type checker can resolve
        return {}
    found = {name: _literals(hint) for name, hint in hints.items()}
    return {name: values for name, values in found.items() if values}


def check_choices(choices: Choices, options: Mapping[str, Any]) -> None:
    """Raise unless every option that has choices is one of them.

    Raises
    ------
    ArgumentError
        Names the option and lists its choices.
    """
    for name, value in options.items():
        if name in choices and not any(value is choice or value == choice for choice in choices[name]):
            msg = f"{name}={value!r} is not known: take {_listed(choices[name])}"
            raise ArgumentError(msg)


def check_names(metric: str, keywords: Iterable[str], options: Iterable[str]) -> None:
    """Raise unless every option is a keyword of the metric.

    Raises
    ------
    ArgumentTypeError
        Names the option, the closest keyword and all keywords.
    """
    known = list(keywords)
    for option in options:
        if option not in known:
            closest = "".join(f" (did you mean {match!r}?)" for match in get_close_matches(option, known, 1))
            msg = f"{metric} has no option {option!r}{closest}; its options are {', '.join(known)}"
            raise ArgumentTypeError(msg)


def _literals(hint: Any) -> tuple[Any, ...]:
    """The values of a literal type; nothing if other values are allowed, too."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) not in (Union, UnionType):
        return ()
    parts = [(None,) if part is type(None) else _literals(part) for part in get_args(hint)]
    return sum(parts, ()) if all(parts) and any(part != (None,) for part in parts) else ()


def _listed(choices: tuple[Any, ...]) -> str:
    words = [f'"{choice}"' if isinstance(choice, str) else repr(choice) for choice in choices]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
