r"""Pairs of low-rank adapters (LoRA), which leave their function alone in every basis of the space between them.

An adapted weight is :math:`W + B A` with A of shape (r, inputs) and B of shape (outputs, r). For every invertible M of rank r, :math:`B M` and :math:`M^{-1} A` are the same
function: the r units between the two are one head, on the output side of A and on the input side of B.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Protocol

from invariant_sharpness.errors import ModelError
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.heads import Heads

_FIRST = re.compile(r"(?<![a-zA-Z])lora_(A|a|down)(?![a-zA-Z])")
_SECOND = {"A": "B", "a": "b", "down": "up"}
"""The names of the two in PEFT, and in others that followed it."""


class HasGroups(Protocol):
    """What has parameter groups, such as an oracle."""

    @property
    def groups(self) -> tuple[ParameterGroup, ...]:
        """Roles and axes of the parameters."""
        ...


def adapter_heads(oracle: HasGroups, pairs: Iterable[tuple[str, str]] = ()) -> dict[str, Heads]:
    r"""Describe the pairs of low-rank adapters of a model for :func:`head_normalized_sharpness`: all units between A and B are one head.

    .. math:: W + B A = W + (B M) (M^{-1} A)

    Parameters
    ----------
    oracle
        The oracle of the model, whose frozen weights are no parameters.
    pairs
        Names of A and B, for adapters with names of their own. Those with the names of PEFT, ``"lora_A"`` and ``"lora_B"``, are found by themselves.

    Returns
    -------
    dict of str to Heads
        The heads of both weights of each pair, in the order of the parameters; without pairs it is empty. Cost: no gradient.

    Raises
    ------
    ModelError
        If there is no parameter of a name, or the ranks of A and B are two.

    Notes
    -----
    Invariances: with these heads the value is the same for every invertible M. Source: Hu et al. (2022) for the adapters; this library for the measure.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from invariant_sharpness import ParameterGroup
    >>> first = ParameterGroup("query.lora_A.default.weight", (2, 8), "matrix", output_axes=(0,), input_axes=(1,))
    >>> second = ParameterGroup("query.lora_B.default.weight", (8, 2), "matrix", output_axes=(0,), input_axes=(1,))
    >>> adapter_heads(SimpleNamespace(groups=(first, second)))["query.lora_B.default.weight"]
    Heads(count=1, side='input')
    """
    groups = {group.name: group for group in oracle.groups}
    found: dict[str, Heads] = {}
    for first, second in [*_named_pairs(list(groups)), *pairs]:
        _check(groups, first, second)
        found |= {first: Heads(1, "output"), second: Heads(1, "input")}
    return {name: found[name] for name in groups if name in found}


def _named_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that are told by their names: of A those of which there is a B."""
    partners = [(name, _FIRST.sub(lambda m: f"lora_{_SECOND[m[1]]}", name)) for name in names if _FIRST.search(name)]
    return [(first, second) for first, second in partners if second in names]


def _check(groups: Mapping[str, ParameterGroup], first: str, second: str) -> None:
    for name in (first, second):
        if name not in groups:
            msg = f"there is no parameter {name!r} that could be an adapter; the parameters are {', '.join(groups)}"
            raise ModelError(msg)
    ranks = _length(groups[first], groups[first].output_axes), _length(groups[second], groups[second].input_axes)
    if ranks[0] != ranks[1]:
        msg = (
            f"{first!r} has {ranks[0]} output units and {second!r} has {ranks[1]} input units, so that they are no pair of adapters: name A "
            f"first, which has as many output units as B has input units"
        )
        raise ModelError(msg)


def _length(group: ParameterGroup, axes: tuple[int, ...]) -> int:
    return prod(group.shape[axis] for axis in axes)
