"""Groups and vectors: names, shapes, axes and dtypes, the way to the host and back, and finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite, prod
from typing import get_args

import numpy as np

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import (
    CurvatureOracle,
    GaussNewtonDiagonalOracle,
    HostArrays,
    ParameterGroup,
    Role,
    capability,
)
from invariant_sharpness.testing.points import nearby_point
from invariant_sharpness.testing.results import CheckFailedError, Figures


def check_groups(oracle: CurvatureOracle, _seed: int) -> Figures:
    """Check that the groups describe the parameters: names, shapes, roles, axes, channel groups and owners. Cost: none."""
    names = [group.name for group in oracle.groups]
    found = list(oracle.parameters.arrays)
    problems = [f"the group {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if names != found:
        problems.append(f"the groups are {', '.join(names)}, but the parameters are {', '.join(found)}, in this order")
    if not names:
        problems.append("there is no group: nothing can be measured")
    known = {group.name: group for group in oracle.groups}
    problems += [f"the group {g.name!r} {problem}" for g in oracle.groups for problem in _problems(g, known)]
    if problems:
        msg = f"{'; '.join(problems)}. Correct the ParameterGroup: metrics work row by row and column by column along its axes"
        raise CheckFailedError(msg)
    return {"groups": len(names), "parameters": sum(group.size for group in oracle.groups)}


def check_vectors(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that parameters, gradient and product have one array per group, in its shape and in the parameter's dtype.

    Cost: a gradient and a product.
    """
    parameters, point = oracle.parameters, nearby_point(oracle, seed)
    vectors: dict[str, Callable[[], ParameterVector]] = {
        "parameters": lambda: parameters,
        "what gradient(p) returns": lambda: oracle.gradient(point),
        "what hessian_vector_product(p, v) returns": lambda: oracle.hessian_vector_product(point, point),
        "what from_numpy(arrays) returns": lambda: oracle.from_numpy(oracle.to_numpy(point)),
    }
    for what, vector in vectors.items():
        for problem in _misfits(oracle, vector(), parameters):
            msg = f"{what} {problem}. Return a ParameterVector with one array per group, in its own shape and dtype"
            raise CheckFailedError(msg)
    return {}


def check_round_trip(oracle: CurvatureOracle, seed: int) -> Figures:
    """Check that ``to_numpy`` gives float64 copies, and ``from_numpy`` brings them back bit by bit. Cost: none."""
    vector = nearby_point(oracle, seed)
    host = oracle.to_numpy(vector)
    before = {name: np.array(values) for name, values in host.items()}
    for name, values in host.items():
        if not isinstance(values, np.ndarray) or values.dtype != np.float64:
            msg = f"to_numpy(vector) is not a float64 NumPy array in {name!r}: convert it there"
            raise CheckFailedError(msg)
    back = oracle.to_numpy(oracle.from_numpy(host))
    for name, values in before.items():
        if not np.array_equal(values, back[name]):
            error = float(np.max(np.abs(values - back[name])))
            msg = f"from_numpy(to_numpy(v)) differs from v by up to {error:.2g} in {name!r}: convert without transposing or rounding"
            raise CheckFailedError(msg, {"difference": error})
    _overwrite(host)
    changed = [name for name, values in oracle.to_numpy(vector).items() if not np.array_equal(values, before[name])]
    if changed:
        msg = f"what to_numpy(v) returned for {changed[0]!r} shares its memory with v: writing into it changes v. Return a copy"
        raise CheckFailedError(msg)
    return {}


def check_finite(oracle: CurvatureOracle, _seed: int) -> Figures:
    """Check that loss and gradient are finite where the model is, and the number of outputs positive. Cost: a loss and a gradient."""
    loss = oracle.loss(oracle.parameters)
    if not isinstance(loss, float) or not isfinite(loss):
        msg = f"loss(parameters) is {loss!r}, but it has to be a finite Python float: there is no curvature elsewhere"
        raise CheckFailedError(msg)
    for name, values in oracle.to_numpy(oracle.gradient(oracle.parameters)).items():
        if not np.isfinite(values).all():
            msg = f"the gradient has NaN or infinite entries in {name!r}, although the loss is finite: the loss has no derivative there"
            raise CheckFailedError(msg)
    able = capability(oracle, GaussNewtonDiagonalOracle)
    if able is not None:
        outputs = able.outputs_per_example
        if not isinstance(outputs, int) or outputs < 1:
            msg = f"outputs_per_example is {outputs!r}, but it is the number of outputs of one example, at least 1"
            raise CheckFailedError(msg)
    return {"loss": loss}


def _overwrite(arrays: HostArrays) -> None:
    for values in arrays.values():
        if values.flags.writeable:
            values[...] = 0.0


def _misfits(oracle: CurvatureOracle, vector: ParameterVector, parameters: ParameterVector) -> Iterator[str]:
    names = [group.name for group in oracle.groups]
    if list(vector.arrays) != names:
        yield f"has the groups {', '.join(vector.arrays)}, but they are {', '.join(names)}, in this order"
        return
    for group in oracle.groups:
        array, dtype = vector[group.name], parameters[group.name].dtype
        if tuple(array.shape) != group.shape:
            yield f"has shape {tuple(array.shape)} in {group.name!r}, but the group has shape {group.shape}"
        if array.dtype != dtype:
            yield f"is of dtype {array.dtype} in {group.name!r}, but the parameter is of {dtype}"


def _problems(group: ParameterGroup, known: dict[str, ParameterGroup]) -> Iterator[str]:
    """Say what is wrong with a group, as predicates."""
    if group.role not in get_args(Role):
        yield f"has the role {group.role!r}, but the roles are {', '.join(get_args(Role))}"
    axes = (*group.output_axes, *group.input_axes)
    outside = [axis for axis in axes if not 0 <= axis < len(group.shape)]
    if outside:
        yield f"has the axis {outside[0]}, but with shape {group.shape} its axes are 0 to {len(group.shape) - 1}"
        return
    if len(set(axes)) < len(axes):
        yield f"has output axes {group.output_axes} and input axes {group.input_axes}, but no axis counts both or twice"
    if group.is_weight and not (group.output_axes and group.input_axes):
        yield f"is a {group.role}, which has rows and columns, but it has no {'input' if group.output_axes else 'output'} axes"
    yield from _channel_problems(group)
    if group.owner is not None:
        yield from _owner_problems(group, known)


def _channel_problems(group: ParameterGroup) -> Iterator[str]:
    whole = group.output_axes if group.divided_axes == "input" else group.input_axes
    size = prod(group.shape[axis] for axis in whole)
    if group.channel_groups < 1 or size % group.channel_groups:
        yield f"has {group.channel_groups} channel groups, which do not divide its {size} channels"


def _owner_problems(group: ParameterGroup, known: dict[str, ParameterGroup]) -> Iterator[str]:
    owner = known.get(group.owner or "")
    if group.role != "bias":
        yield f"is owned by {group.owner!r}, but only a bias has an owner, and this is a {group.role}"
    elif owner is None:
        return  # its weight may be frozen
    elif not owner.is_weight and owner.role != "norm":
        yield f"is owned by {group.owner!r}, which is of the role {owner.role!r}, but a weight or a gain owns a bias"
    elif owner.is_weight and group.size != _units(owner):
        yield f"has {group.size} entries, but its owner {owner.name!r} has {_units(owner)} output units: are its axes right?"


def _units(group: ParameterGroup) -> int:
    count = prod(group.shape[axis] for axis in group.output_axes if axis < len(group.shape))
    return count * group.channel_groups if group.divided_axes == "output" else count
