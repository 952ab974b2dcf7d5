"""Numbers that users pass: what is no number of its kind is refused before anything is computed.

One name means one thing in the whole library, so that what it may be is said here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from inspect import signature
from math import isnan
from numbers import Integral, Real
from typing import Any, NamedTuple, ParamSpec, TypeVar

from invariant_sharpness.errors import ArgumentError, ModelError

P = ParamSpec("P")
R = TypeVar("R")

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lam": (lambda value: 0 < value < float("inf"), "lambda is a positive number"),
    "budget": (lambda value: 0 < value < float("inf"), "a budget is a positive number of gradients"),
    "tolerance": (lambda value: 0 <= value < float("inf"), "a tolerance is a number that is not negative"),
    "max_iterations": (lambda value: value >= 1, "an iteration takes at least one step"),
    "steps": (lambda value: value >= 1, "an iteration takes at least one step"),
    "num_examples": (lambda value: value >= 1, "the bound needs at least one example"),
    "resamples": (lambda value: value >= 1, "an interval takes at least one resampled ledger"),
    "smallest_environment": (lambda value: 0 < value < float("inf"), "an environment has a positive number of pairs"),
    "test_examples": (lambda value: value >= 1, "gaps are measured on at least one example"),
    "seed": (lambda value: 0 <= value < 2**63, "a seed is an integer from 0 to 2**63 - 1"),
}
"""What values may be, by name, where that is the same for every function; others say it themselves."""


class _Kind(NamedTuple):
    """What a function takes under one name."""

    default: Any
    is_integer: bool
    may_be_none: bool


def checked_numbers(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of an oracle that refuses keywords which are no numbers, where its annotations say that they are.

    Raises
    ------
    ModelError
        When called with something else than an oracle.
    ArgumentError
        When called; names the argument, what was given, and an example of what is taken.
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        check_numbers(function, kwargs)
        for oracle in args[:1]:
            require_oracle(oracle)
        return function(*args, **kwargs)

    return called


def check_numbers(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise :class:`ArgumentError` if one of the options is no number, although the function takes one under its name."""
    kinds, old_names = _kinds(function), getattr(function, "new_by_old", {})
    for name, value in options.items():
        kind = kinds.get(old_names.get(name, name))
        if kind is not None:
            _check(name, value, kind)


def require_oracle(oracle: object) -> None:
    """Raise :class:`ModelError` if this is no oracle, but a model, say."""
    if not (hasattr(oracle, "hessian_vector_product") and hasattr(oracle, "loss")):
        msg = (
            f"a {type(oracle).__name__} is no oracle: make one by invariant_sharpness.oracle(model, data, loss=...), which knows the loss "
            f"and the data"
        )
        raise ModelError(msg)


def require_seed(seed: object) -> None:
    """Raise :class:`ArgumentError` unless this is a seed."""
    _check("seed", seed, _Kind(0, is_integer=True, may_be_none=False))


def _check(name: str, value: object, kind: _Kind) -> None:
    if value is None and kind.may_be_none:
        return
    is_number = isinstance(value, Integral if kind.is_integer else Real) and not isinstance(value, bool)
    if is_number and not isnan(float(value)) and _is_in_range(name, value, kind):  # type: ignore[arg-type]
        return
    what = "an integer" if kind.is_integer else "a number"
    _, words = _RANGES.get(name, (None, f"{name} is {what}"))
    example = "" if kind.default is None else f", such as {kind.default!r}"
    otherwise = " or None" if kind.may_be_none else ""
    msg = f"{name}={value!r}, but {words}{otherwise}{example}"
    raise ArgumentError(msg)


def _is_in_range(name: str, value: object, kind: _Kind) -> bool:
    """A function of others whose own default is outside means something else by the name."""
    is_valid, _ = _RANGES.get(name, (None, ""))
    return is_valid is None or is_valid(value) or not (kind.default is None or is_valid(kind.default))


@lru_cache(maxsize=512)
def _kinds(function: Callable[..., Any]) -> dict[str, _Kind]:
    """The arguments that are numbers, told by their annotations, which are words where they are not evaluated."""
    try:
        parameters = signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return {}
    found = {}
    for name, parameter in parameters.items():
        words = getattr(parameter.annotation, "__name__", str(parameter.annotation)).split(" | ")
        if set(words) <= {"int", "float", "None"} and words != ["None"]:
            default = None if parameter.default is parameter.empty else parameter.default
            found[name] = _Kind(default, "float" not in words, "None" in words)
    return found
