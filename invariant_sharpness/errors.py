"""The errors of the library: each names the thing that is wrong and says what to do."""

from __future__ import annotations


class InvariantSharpnessError(Exception):
    """Base class: ``except InvariantSharpnessError`` catches all that the library raises on purpose."""


class DataError(InvariantSharpnessError, ValueError):
    """The data cannot be measured on: empty, exhausted, changing, of a wrong shape or label."""


class LossError(InvariantSharpnessError, ValueError):
    """The loss is not one number per example, or it is not defined for these outputs."""


class ModelError(InvariantSharpnessError, ValueError):
    """The model is not a deterministic function of real parameters, or it is of an unknown kind."""


class NonFiniteError(InvariantSharpnessError, ArithmeticError):
    """A parameter, input, loss or derivative is NaN or infinite."""


class MissingCapabilityError(InvariantSharpnessError, TypeError):
    """A metric needs a derivative that this oracle cannot supply."""


class MissingDependencyError(InvariantSharpnessError, ImportError):
    """An optional package is not installed."""


class ArgumentError(InvariantSharpnessError, ValueError):
    """An argument is outside of its range, or does not fit the oracle or another argument."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument is of a type that is not taken, or there is none of its name."""


class UnknownNameError(InvariantSharpnessError, KeyError):
    """There is nothing of this name; says which names there are."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # that of KeyError puts quotes around it


class ComparisonError(InvariantSharpnessError, ValueError):
    """Two models were measured in ways that cannot be compared: under other losses, or with other numbers of outputs."""


class CheckpointError(InvariantSharpnessError, ValueError):
    """The files of an interrupted run belong to another one, are damaged, or cannot be read or written."""


class ProcessError(InvariantSharpnessError, RuntimeError):
    """Another process that has a part of the data has ended, or computes something else."""


def missing_dependency(package: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for an optional package that is not there, with the command that installs it."""
    msg = f"{purpose} needs {package}, which is not installed: pip install 'invariant-sharpness[{extra}]'"
    return MissingDependencyError(msg)
