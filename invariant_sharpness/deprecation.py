"""Old names of arguments, accepted for one release with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from invariant_sharpness.errors import ArgumentTypeError

P = ParamSpec("P")
R = TypeVar("R")


def _level_of_caller() -> int:
    """The ``stacklevel`` of the first caller outside of the library: a metric calls its function itself."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("invariant_sharpness."):
        frame, level = frame.f_back, level + 1
    return level


def renamed(**new_by_old: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that takes the old keywords, too: ``@renamed(steps="max_iterations")``.

    Raises
    ------
    ArgumentTypeError
        When the function is called with both names of one argument.
    """

    def accepting(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in new_by_old.keys() & kwargs.keys():
                new = new_by_old[old]
                if new in kwargs:
                    msg = (
                        f"{function.__name__}() got {old}= and {new}=, which are two names of one argument: give {new}="
                    )
                    raise ArgumentTypeError(msg)
                warnings.warn(
                    f"{function.__name__}({old}=...) is now {function.__name__}({new}=...); the old name goes in 0.3",
                    DeprecationWarning,
                    stacklevel=_level_of_caller(),
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        vars(called)["new_by_old"] = new_by_old
        return called

    return accepting
