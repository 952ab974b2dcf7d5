"""Which parameter groups a metric of weights counts, and what it says of the others: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from invariant_sharpness.errors import ModelError
from invariant_sharpness.estimators.diagonal_results import HessianDiagonal
from invariant_sharpness.protocol import ParameterGroup

_MOST_NAMED = 3
"""A note names so many groups, and counts the others."""


def require_weights(groups: Sequence[ParameterGroup], counted: Iterable[str], metric: str) -> None:
    """Raise unless something counts.

    Raises
    ------
    ModelError
        If there is no weight: names the groups that there are, with their roles.
    """
    if any(True for _ in counted):
        return
    found = ", ".join(f"{group.name} ({group.role})" for group in groups[:_MOST_NAMED])
    more = f" and {len(groups) - _MOST_NAMED} more" if len(groups) > _MOST_NAMED else ""
    msg = (
        f"{metric} is a sum over weights, with rows and columns, and none of the parameters has the role of one: {found}{more}. "
        f"Describe those that are weights by groups=[ParameterGroup(name, shape, 'matrix', output_axes=..., input_axes=...)], or "
        f"take a metric of all parameters, such as hessian_trace or fisher_rao_norm"
    )
    raise ModelError(msg)


def left_out(groups: Sequence[ParameterGroup], counted: Iterable[str]) -> tuple[str, ...]:
    """Name the parameters of no known role that do not count. Biases and gains are left out by definition."""
    taken = set(counted)
    names = [group.name for group in groups if group.role == "other" and group.name not in taken]
    if not names:
        return ()
    return (
        f"not counted, since nothing tells their rows from their columns: {listed(names)}; groups=[ParameterGroup(...)] names their axes",
    )


def without_curvature(diagonal: HessianDiagonal, counted: Iterable[str]) -> tuple[str, ...]:
    """Name the counted groups that contribute nothing because the loss does not depend on them in second order."""
    names = [name for name in sorted(counted) if name in diagonal.groups and not diagonal[name].values.any()]
    return (f"no curvature at all, so that they contribute 0: {listed(names)}",) if names else ()


def listed(names: Sequence[str]) -> str:
    """Write the first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
