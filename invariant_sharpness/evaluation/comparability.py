"""What can be compared: why numbers of two models are of two kinds, and what else may explain their difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from invariant_sharpness.errors import ComparisonError
from invariant_sharpness.evaluation.conditions import Conditions
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.results.estimate import Estimate
from invariant_sharpness.runtime.identity import digest

_POINTS = ("Moved", "Restricted")
"""Coordinates that say where a model is, or which of its parameters are looked at: the matrix is the same."""


def require_comparable(conditions: Mapping[str, Conditions]) -> None:
    """Raise unless all models were measured in ways that can be compared.

    Raises
    ------
    ComparisonError
        Names the first pair of models that cannot be compared, and all reasons.
    """
    (first, here), *others = conditions.items()
    for name, there in others:
        if reasons := list(_reasons(here, there)):
            msg = f"{first!r} and {name!r} cannot be compared: {'; '.join(reasons)}"
            raise ComparisonError(msg)


def _reasons(here: Conditions, there: Conditions) -> Iterator[str]:
    if here.loss and there.loss and here.loss != there.loss:
        yield f"their losses are {here.loss} and {there.loss}, whose curvatures are different quantities; build both oracles with one loss"
    if here.outputs is not None and there.outputs is not None and here.outputs != there.outputs:
        yield f"an example has {here.outputs} outputs and {there.outputs}, such as classes, and sharpness grows with their number; take models of one task"
    matrices = [tuple(word for word in one.coordinates if word not in _POINTS) for one in (here, there)]
    if matrices[0] != matrices[1]:
        words = [" of ".join((*matrix, "the model")) for matrix in matrices]
        yield f"they are measured in other coordinates, {words[0]} and {words[1]}; wrap both oracles alike"


def other_conditions(conditions: Mapping[str, Conditions]) -> Iterator[str]:
    """Say what else than the models themselves may explain a difference."""
    if unknown := [name for name, one in conditions.items() if not one.loss]:
        yield f"the loss of {_quoted(unknown)} is not known to the library: see to it that it is the same"
    if unknown := [name for name, one in conditions.items() if not one.data]:
        yield f"the data of {_quoted(unknown)} are not known to the library: see to it that they are the same"
    (first, here), *others = conditions.items()
    for name, there in others:
        if here.data and there.data and here.data != there.data:
            counts = (
                f"{here.examples} and {there.examples} examples"
                if here.examples != there.examples
                else "other examples"
            )
            yield f"{first!r} and {name!r} have other data ({counts}): the difference may be one of the data; measure both on the same"
        if here.precision != there.precision:
            yield f"{first!r} is in {here.precision} and {name!r} in {there.precision}: rounding may explain small differences"


def other_models(oracles: Mapping[str, CurvatureOracle]) -> Iterator[str]:
    """Say which models have other parameters, and which have the very same ones."""
    (first, here), *others = oracles.items()
    point = digest(here.to_numpy(here.parameters))
    for name, there in others:
        if different := _other_groups(here, there):
            yield f"{first!r} and {name!r} have other architectures, {different}: sharpness grows with the number of parameters, so that a ratio says little"
        elif digest(there.to_numpy(there.parameters)) == point:
            yield (
                f"{first!r} and {name!r} have the same parameters, bit by bit: an oracle follows its model, so that two checkpoints need two models, or "
                f"Moved(oracle, parameters)"
            )


def _other_groups(here: CurvatureOracle, there: CurvatureOracle) -> str:
    """The first parameters of which two models have other shapes, in words; nothing if there are none. Names may differ, as in other frameworks."""
    for pair in zip_longest(here.groups, there.groups):
        if len({None if group is None else tuple(group.shape) for group in pair}) > 1:
            words = ["nothing" if group is None else f"{group.name} {tuple(group.shape)}" for group in pair]
            return f"such as {words[0]} and {words[1]}"
    return ""


def other_methods(metric: str, estimates: Mapping[str, Estimate]) -> Iterator[str]:
    """Say where a metric was sampled for one model and not for another."""
    sampled = [name for name, estimate in estimates.items() if estimate.kind == "sampled"]
    if sampled and len(sampled) < len(estimates):
        exact = [name for name in estimates if name not in sampled]
        yield (
            f"{metric} was sampled for {_quoted(sampled)} and not for {_quoted(exact)}: where entries are clipped, sampling makes a value "
            f"too large; compare with the same method"
        )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
