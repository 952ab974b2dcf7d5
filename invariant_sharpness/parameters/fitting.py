"""Whether a vector belongs to the parameters of a network, told by names and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from invariant_sharpness.errors import ModelError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.vector import ParameterVector


def require_fitting(vector: object, groups: Sequence[ParameterGroup], what: str) -> ParameterVector:
    """Return the vector, if it has an array of the right shape for each of the groups.

    Parameters
    ----------
    vector
        Made of the arrays of the same network, or of another one.
    groups
        The parameters of the oracle.
    what
        What the vector is, for the message.

    Raises
    ------
    ModelError
        Names the first group that differs.
    """
    otherwise = "make it out of oracle.parameters, or of a dictionary of arrays by oracle.from_numpy"
    if not isinstance(vector, ParameterVector):
        msg = f"{what} are a {type(vector).__name__}, but they have to be a vector of the oracle's parameters: {otherwise}"
        raise ModelError(msg)
    for group in groups:
        array = vector.arrays.get(group.name)
        if array is None or tuple(array.shape) != group.shape:
            found = f"has {', '.join(vector.arrays)}" if array is None else f"has shape {tuple(array.shape)} there"
            msg = (
                f"{what} belong to another network: the oracle has a group {group.name!r} of shape {group.shape}, and the "
                f"vector {found}; {otherwise}"
            )
            raise ModelError(msg)
    return vector
