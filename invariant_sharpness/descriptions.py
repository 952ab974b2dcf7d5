"""Parameter groups that users describe themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from invariant_sharpness.errors import ModelError
from invariant_sharpness.protocol import ParameterGroup


def given_groups(given: Sequence[ParameterGroup], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ParameterGroup]:
    """The groups that users gave, by name, for parameters of these shapes.

    Raises
    ------
    ModelError
        If a group is no parameter of the model, or has another shape.
    """
    for group in given:
        shape = shapes.get(group.name, "no trainable parameter")
        if shape != group.shape:
            msg = f"the group {group.name!r} was given with shape {group.shape}, but in the model it is {shape}"
            raise ModelError(msg)
    return {group.name: group for group in given}
