"""Parameter groups named by patterns, as in ``"encoder.*.weight"``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from invariant_sharpness.errors import ModelError

_MAX_LISTED = 20


def matching_names(names: Sequence[str], patterns: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names that match one of the patterns, in their own order.

    Parameters
    ----------
    names
        All names.
    patterns
        A name or a pattern, or several of them. In a pattern ``*`` stands for any characters, ``?`` for one and ``[ab]`` for one of
        these; a name that is the very pattern is taken as it is.

    Returns
    -------
    tuple of str
        At least one name.

    Raises
    ------
    ModelError
        If a pattern matches no name; lists the names that there are.

    Examples
    --------
    >>> matching_names(["encoder.weight", "encoder.bias", "head.weight"], ["encoder.*"])
    ('encoder.weight', 'encoder.bias')
    """
    found: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        matched = {name for name in names if name == pattern} or {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            raise ModelError(_no_match(names, pattern))
        found |= matched
    if not found:
        raise ModelError(_no_match(names, ""))
    return tuple(name for name in names if name in found)


def are_patterns(value: object) -> bool:
    """Whether this is a name or a pattern, or a list of them: a tree of arrays is none."""
    if isinstance(value, str):
        return True
    return isinstance(value, (list, tuple, set, frozenset)) and bool(value) and all(isinstance(v, str) for v in value)


def _no_match(names: Sequence[str], pattern: str) -> str:
    close = get_close_matches(pattern, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed, more = ", ".join(names[:_MAX_LISTED]), len(names) - _MAX_LISTED
    return f"no parameter group matches {pattern!r}.{hint} The groups are {listed}" + (
        f" and {more} more" if more > 0 else ""
    )
