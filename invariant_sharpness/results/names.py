"""Mappings by name that say, when they are asked for a name that they do not have, which names there are and which was meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

from invariant_sharpness.errors import UnknownNameError

T = TypeVar("T")


class ByName(dict[str, T]):
    """A dictionary with an error that helps.

    Parameters
    ----------
    items
        The items by name.
    what
        What has a name, such as ``"metric"``.
    where
        Where it was looked for, such as ``"in this report"``.
    """

    def __init__(self, items: Mapping[str, T], what: str, where: str = "") -> None:
        super().__init__(items)
        self._words = what, where

    def __missing__(self, name: object) -> T:
        what, where = self._words
        raise UnknownNameError(no_such_name(what, name, self, where))


def no_such_name(what: str, name: object, names: Collection[str], where: str = "", likely: Collection[str] = ()) -> str:
    """Write which names there are, and which was meant: one of the ``likely`` ones if there are any, or else the closest."""
    closest = likely or (get_close_matches(name, names, 1) if isinstance(name, str) else [])
    advice = f" (did you mean {' or '.join(map(repr, closest))}?)" if closest else ""
    return f"there is no {what} {name!r}{where and f' {where}'}{advice}; the {what}s are {', '.join(names) or 'none'}"
