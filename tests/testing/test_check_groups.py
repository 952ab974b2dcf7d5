"""A parameter group that is described wrongly is found."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from zoo.mutants import Mutant, base, failures


class Regrouped(Mutant):
    """A correct oracle whose groups are described otherwise."""

    def __init__(self, base: Any, group: str, /, **changes: Any) -> None:
        super().__init__(base)
        self.groups = tuple(replace(g, **changes) if g.name == group else g for g in base.groups)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_axes": (2,)}, "has the axis 2, but with shape"),
        ({"input_axes": (0,)}, "no axis counts both"),
        ({"output_axes": (), "input_axes": (1,)}, "has no output axes"),
        ({"output_axes": (1,), "input_axes": (0,)}, "its owner .* has 4 output units: are its axes right"),
        ({"role": "kernel"}, "has the role 'kernel', but the roles are matrix"),
        ({"shape": (4, 5)}, "shape"),
        ({"channel_groups": 2}, "channel groups, which do not divide"),
        ({"name": "other"}, "the parameters are"),
    ],
)
def test_group_that_is_described_wrongly_is_found(changes: dict[str, Any], message: str) -> None:
    found = failures(Regrouped(base(), base().groups[0].name, **changes))
    text = f"{found.get('check_groups')} {found.get('check_vectors')}"
    assert re.search(message, text), f"{message!r} is not in {text!r}"
