"""Validate the docstrings of all public functions and classes, by the rules of numpydoc.

``python docs/_extensions/validate_docstrings.py`` prints what is missing, and exits with 1 if anything is.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from numpydoc.validate import validate

MODULES = (
    "invariant_sharpness",
    "invariant_sharpness.metrics",
    "invariant_sharpness.estimators",
    "invariant_sharpness.scales",
    "invariant_sharpness.symmetries",
    "invariant_sharpness.adapters",
    "invariant_sharpness.landscapes",
    "invariant_sharpness.losses",
    "invariant_sharpness.plotting",
    "invariant_sharpness.testing",
)
RULES = {
    "GL08": "there is no docstring",
    "SS01": "the first line is no summary",
    "PR01": "parameters are not described",
    "PR02": "parameters are described that do not exist",
    "RT01": "what it returns is not described",
    "EX01": "there is no example",
}
OPTIONS_OF_BACKENDS = {("invariant_sharpness.oracle", "PR01"), ("invariant_sharpness.oracle", "PR02")}
"""``**options`` are described one by one, as each backend takes them."""


def public_names() -> Iterator[tuple[str, object]]:
    """Yield each public function and class once, under its shortest name."""
    seen: set[int] = set()
    for module in MODULES:
        if find_spec(module) is None:
            continue
        namespace = importlib.import_module(module)
        for name in getattr(namespace, "__all__", ()):
            thing = getattr(namespace, name)
            described = getattr(thing, "function", thing)  # a metric is described by its function
            if id(described) not in seen and (inspect.isclass(described) or inspect.isfunction(described)):
                seen.add(id(described))
                yield f"{module}.{name}" + ("" if described is thing else ".function"), described


def excused(name: str, thing: object, rule: str) -> bool:
    """Say whether a rule does not apply: nobody calls a protocol or an error, so that these need no example."""
    if rule == "EX01" and name.startswith("invariant_sharpness.adapters."):
        return True  # the parts of an engine are of use together: docs/engines.md has a complete one, which tests run
    uncalled = inspect.isclass(thing) and (getattr(thing, "_is_protocol", False) or issubclass(thing, BaseException))
    return (uncalled and rule in ("EX01", "PR01")) or (name, rule) in OPTIONS_OF_BACKENDS


def main() -> int:
    count, found = 0, 0
    for name, thing in public_names():
        count += 1
        rules = {rule for rule, _ in validate(name)["errors"] if rule in RULES and not excused(name, thing, rule)}
        found += len(rules)
        for rule in sorted(rules):
            print(f"{name.removesuffix('.function')}: {rule}, {RULES[rule]}")
    print(f"{count} public functions and classes, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
