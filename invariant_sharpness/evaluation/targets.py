"""Targets of the command line, ``file.py:name`` or ``file.py:name(argument="value")``: imported, run, and made into an oracle or a metric."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isfunction, isroutine, signature
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from invariant_sharpness.adapters.registry import oracle
from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.evaluation.door import AnyMetric
from invariant_sharpness.metrics import METRICS
from invariant_sharpness.protocol import CurvatureOracle

_FORMS = "an oracle, a tuple (model, data) or (model, data, loss), or a function that returns one of these"


_FORM = re.compile(r"(.+?):(\w+)(\(.*\))?", re.DOTALL)


class TargetError(InvariantSharpnessError, ValueError):
    """A target is not written as it should be, is not there, or is not something that can be measured."""


class Call(NamedTuple):
    """A name in a module, and the arguments with which it is called, if it is.

    Parameters
    ----------
    name
        The name.
    arguments
        By position and by keyword; None without parentheses.
    """

    name: str
    arguments: tuple[list[Any], dict[str, Any]] | None

    def of(self, function: Any, target: str) -> Any:
        """Return a function without arguments that makes the call.

        Raises
        ------
        TargetError
            If it cannot be called with these arguments.
        """
        positional, keywords = self.arguments or ([], {})
        if not callable(function):
            msg = f"{target} calls something of type {type(function).__name__}: leave the parentheses out"
            raise TargetError(msg)
        try:
            signature(function).bind(*positional, **keywords)
        except TypeError as error:
            msg = f"{target} cannot be called so: {error}; it takes {signature(function)}"
            raise TargetError(msg) from error
        return partial(function, *positional, **keywords)


def load_oracle(target: str, *, loss: str | None = None, **options: Any) -> CurvatureOracle:
    """Import and run ``target``, and return the oracle that it stands for.

    The module is executed, with the rights of whoever calls. The folder of the file (for a module: the
    current folder) can be imported from, as if the file were run by ``python``.

    Parameters
    ----------
    target
        ``"file.py:name"`` or ``"package.module:name"``. The name is an oracle, a tuple ``(model, data)`` or
        ``(model, data, loss)``, or a function that returns one of these. Its arguments, if any, are literals of Python in parentheses, as in
        ``'train.py:make_oracle(checkpoint="a.pt")'``.
    loss
        A loss by name, instead of the one of the tuple.
    options
        Of :func:`invariant_sharpness.oracle`, such as ``dtype``, for the model of a tuple.

    Raises
    ------
    TargetError
        If there is no such file, module or name, or what it names cannot be measured, or takes none of these options.
    """
    module, call, place = _imported(target, "oracle")
    name, names = call.name, vars(module)
    if name in names:
        named = names[name] if call.arguments is None else call.of(names[name], target)
        return _to_oracle(named, target, ({} if loss is None else {"loss": loss}) | options)
    found = _measurable(names, module.__name__)
    advice = f"; it has {', '.join(found)}" if found else f", and nothing else in it is {_FORMS}"
    meant = "".join(f" (did you mean {match!r}?)" for match in get_close_matches(name, found, 1))
    msg = f"there is no {name!r} in {place}{meant}{advice}"
    raise TargetError(msg)


def load_metric(target: str) -> AnyMetric:
    """Import the metric that ``target`` stands for, as :func:`load_oracle` does; or take the name of one of the library's.

    Parameters
    ----------
    target
        ``"file.py:name"`` or ``"package.module:name"``, where the name is a callable ``oracle -> number or Estimate``; or a name such as
        ``"hessian_trace"``.

    Raises
    ------
    TargetError
        If there is no such file, module or name, or what it names cannot be called.
    """
    if target in METRICS:
        return target
    module, call, place = _imported(target, "metric")
    name = call.name
    if call.arguments is not None:
        msg = f"{target!r} calls a metric, but it names one: write {place}:{name}"
        raise TargetError(msg)
    metric = vars(module).get(name)
    if callable(metric):
        return metric
    own = [key for key, value in vars(module).items() if isfunction(value) and value.__module__ == module.__name__]
    found = f"is of type {type(metric).__name__}" if name in vars(module) else "is not there"
    advice = f"; functions in it are {', '.join(own)}" if own else ""
    msg = f"{name!r} in {place} {found}, but a metric is a callable oracle -> number or Estimate{advice}"
    raise TargetError(msg)


def _imported(target: str, what: str) -> tuple[ModuleType, Call, str]:
    """Return the module of a target, what is named in it, and where the module is."""
    found = _FORM.fullmatch(target)
    if found is None:
        msg = f"{target!r} names no {what}: write file.py:name or package.module:name"
        raise TargetError(msg)
    place, name, arguments = found.groups()
    call = Call(name, None if arguments is None else _literals(name + arguments, target))  # before anything is run
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place), call, place


def _literals(text: str, target: str) -> tuple[list[Any], dict[str, Any]]:
    """Read the arguments of a call, of which only literals are evaluated."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return [ast.literal_eval(argument) for argument in call.args], keywords
    except (SyntaxError, ValueError) as error:
        msg = (
            f"{target!r}: the arguments of a target are numbers, strings and other literals of Python, as in "
            f'train.py:make_oracle(checkpoint="a.pt"); put the whole into quotes for the shell'
        )
        raise TargetError(msg) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        msg = f"there is no file {str(path)!r} in {Path.cwd()}"
        raise TargetError(msg)
    _import_from(path.resolve().parent)
    # A file called json.py must not take the place of the module that others have imported already.
    name = path.stem if path.stem not in sys.modules else f"target_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    _import_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the target's own code fails to import is the user's error, and keeps its traceback.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        msg = f"there is no module {error.name!r}: write package.module:name, or the path of a file, file.py:name"
        raise TargetError(msg) from error


def _import_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _measurable(names: Mapping[str, Any], module: str) -> list[str]:
    """List the names that could have been meant: oracles, tuples with a model, and functions without arguments of the module itself."""
    return [
        name
        for name, value in names.items()
        if not name.startswith("_")
        and (_is_oracle(value) or _starts_with_model(value) or _is_function_of(value, module))
    ]


def _is_oracle(value: Any) -> bool:
    return isinstance(value, CurvatureOracle) and not isinstance(value, type)


def _is_buildable(value: Any) -> bool:
    """Say whether it is an oracle, or a tuple of what makes one."""
    return len(value) in (2, 3) if isinstance(value, tuple) else _is_oracle(value)


def _starts_with_model(value: Any) -> bool:
    """Say whether it is a tuple for an oracle rather than one of numbers or arrays."""
    return isinstance(value, tuple) and _is_buildable(value) and not _is_plain(value[0])


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float, str)) or hasattr(value, "shape")


def _is_function_of(value: Any, module: str) -> bool:
    return isfunction(value) and value.__module__ == module and not _required_arguments(value)


def _to_oracle(value: Any, target: str, options: Mapping[str, Any]) -> CurvatureOracle:
    if _is_buildable(value):
        return _build(value, target, options)
    # A model may be callable too, but calling it would not make an oracle.
    if not (isroutine(value) or isinstance(value, (type, partial))):
        msg = f"{target} is of type {type(value).__name__}, but it should be {_FORMS}"
        raise TargetError(msg)
    if required := _required_arguments(value):
        msg = f"{target} takes the arguments {', '.join(required)}, but it is called without any: give them defaults, or write {target}({required[0]}=...)"
        raise TargetError(msg)
    returned = value()
    if not _is_buildable(returned):
        msg = (
            f"{target} returned something of type {type(returned).__name__}, but it should return an oracle or a tuple "
            f"(model, data) or (model, data, loss)"
        )
        raise TargetError(msg)
    return _build(returned, target, options)


def _build(value: Any, target: str, options: Mapping[str, Any]) -> CurvatureOracle:
    if not isinstance(value, tuple):
        found: CurvatureOracle = value
        if options:
            msg = (
                f"{target} is an oracle, which has been made already: {', '.join(options)} can be chosen for a tuple (model, data) "
                f"or (model, data, loss)"
            )
            raise TargetError(msg)
        return found
    model, data, *given = value
    loss = dict(zip(("loss",), given, strict=False))
    try:
        return oracle(model, data, **(loss | dict(options)))
    except TypeError as error:
        if options.keys() <= {"loss"} or "has no option" not in str(error):
            raise
        raise TargetError(str(error)) from error


def _required_arguments(function: Any) -> list[str]:
    """List the arguments without a default."""
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
