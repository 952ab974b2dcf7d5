"""Processes that have the data together: each computes on its part, and all learn the same.

Processes wait for one another at two places alone: where each tells all others what came of its part, and where arrays are added.
What one process raises, all raise there, so that none is left waiting, and all go on in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from invariant_sharpness.errors import InvariantSharpnessError, ModelError
from invariant_sharpness.protocol import CurvatureOracle, innermost

Array = Any


class Gathering(Protocol):
    """Some processes, of which this is one. All of them call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many processes there are."""
        ...

    def gather(self, told: Any, /) -> list[Any]:
        """Return what each process tells, in the order of their ranks: small things that can be pickled."""
        ...


class Processes(Gathering, Protocol):
    """Processes that have the data together, each a part of it."""

    def add(self, array: Array, holders: Sequence[bool], /) -> Array:
        """Add the arrays of those processes that hold one, in the order of their ranks: the same bits on all processes.

        All arrays have one shape and dtype; those of the other processes do not count.
        """
        ...


class OneProcess:
    """One process, which has all the data."""

    rank = 0
    size = 1

    def gather(self, told: Any, /) -> list[Any]:
        return [told]

    def add(self, array: Array, holders: Sequence[bool], /) -> Array:
        return array


ALONE = OneProcess()

Found = TypeVar("Found")
Told = TypeVar("Told")


class _Failure(NamedTuple):
    """An error of one process, as the others learn of it."""

    kind: type[InvariantSharpnessError]
    message: str


def together(
    processes: Gathering, compute: Callable[[], Found], tell: Callable[[Found], Told]
) -> tuple[Found, list[Told]]:
    """Compute something on every process, and tell all of them about it.

    Parameters
    ----------
    processes
        Those that take part.
    compute
        Computes with what this process has. It asks no other process.
    tell
        What all processes learn of the result.

    Returns
    -------
    tuple
        The result of this process, and what all of them tell, in the order of their ranks.

    Raises
    ------
    InvariantSharpnessError
        On every process, if one of them raises: the error of the first, with its rank.
    """
    if processes.size == 1:
        found = compute()
        return found, [tell(found)]
    attempt = _attempted(compute, tell)
    if attempt.error is not None and hasattr(attempt.error, _KNOWN_TO_ALL):
        raise attempt.error
    answers = processes.gather(attempt.told)
    _raise_first(answers, attempt.error)
    return cast(Found, attempt.found), answers


_KNOWN_TO_ALL = "_known_to_all_processes"
"""What marks errors that all processes raise: they are told once, where one computation together is part of another."""


def everywhere(processes: Gathering, compute: Callable[[], Told]) -> list[Told]:
    """Return what every process computes, in the order of their ranks."""
    return together(processes, compute, lambda found: found)[1]


class _Attempt(NamedTuple):
    """What came of a computation, what the others learn of it, and what it raised."""

    found: Any
    told: Any
    error: Exception | None = None


def _attempted(compute: Callable[[], Found], tell: Callable[[Found], Told]) -> _Attempt:
    try:
        found = compute()
        return _Attempt(found, tell(found))
    except Exception as error:  # whatever it is: the others must not wait
        return _Attempt(None, _failure(error), error)


def _failure(error: Exception) -> _Failure:
    if isinstance(error, InvariantSharpnessError):
        return _Failure(_own_kind(type(error)), str(error))
    return _Failure(ModelError, f"{type(error).__name__}: {error}")


def _own_kind(kind: type[InvariantSharpnessError]) -> type[InvariantSharpnessError]:
    """The kind of error of this library that one of a user's own is: the others may not know that one, or how to make it."""
    own = InvariantSharpnessError
    return next(base for base in kind.__mro__ if issubclass(base, own) and base.__module__ == own.__module__)


def _raise_first(answers: Sequence[Any], own: Exception | None) -> None:
    """Raise the error of the first process that has one; where all have the same, each raises its own."""
    failures = [(rank, answer) for rank, answer in enumerate(answers) if isinstance(answer, _Failure)]
    if not failures:
        return
    if own is not None and len(failures) == len(answers) == [answer for _, answer in failures].count(failures[0][1]):
        raise _marked(own)
    rank, (kind, message) = failures[0]
    msg = f"process {rank}: {message}"
    raise _marked(kind(msg)) from own


def _marked(error: Exception) -> Exception:
    setattr(error, _KNOWN_TO_ALL, True)
    return error


def processes_of(oracle: CurvatureOracle, otherwise: Gathering = ALONE) -> Gathering:
    """Return the processes that have the data of an oracle, in whatever coordinates, or that compute together on the same data."""
    inner = innermost(oracle)
    computing: Gathering | None = getattr(inner, "computing", None)
    found: Gathering = getattr(inner, "processes", otherwise) if computing is None else computing
    return found
