"""An oracle made of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import array_api_compat.numpy
import numpy as np
import numpy.typing as npt

from invariant_sharpness.errors import ModelError, NonFiniteError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import HostArrays, ParameterGroup
from invariant_sharpness.runtime.exclusive import exclusive

Array = npt.NDArray[np.float64]
Arrays = dict[str, Array]


class FunctionOracle:
    """A loss, its gradient and its Hessian-vector product, given as functions of dictionaries of arrays.

    The functions must be pure; one thread calls them at a time. They are given copies of all arrays, by group name and in float64.

    Parameters
    ----------
    parameters
        Where the model is now: one array per group.
    loss
        ``loss(p) -> float``.
    gradient
        ``gradient(p) -> {name: array}``.
    hessian_vector_product
        ``hessian_vector_product(p, v) -> {name: array}``.
    groups
        Default: a two-dimensional array is a matrix (outputs, inputs), any other has the role ``"other"``.

    Raises
    ------
    ModelError
        If groups and parameters do not fit, or a function returns other names or shapes than those of the
        parameters; names the group.
    NonFiniteError
        If a parameter or what a function returns is NaN or infinite; names the group.
    """

    xp = array_api_compat.numpy

    def __init__(
        self,
        parameters: Mapping[str, npt.ArrayLike],
        loss: Callable[[Arrays], float],
        gradient: Callable[[Arrays], Mapping[str, Any]],
        hessian_vector_product: Callable[[Arrays, Arrays], Mapping[str, Any]],
        groups: Sequence[ParameterGroup] | None = None,
    ) -> None:
        if not parameters:
            msg = "parameters is empty: there is nothing to measure"
            raise ModelError(msg)
        shapes = {name: np.shape(array) for name, array in parameters.items()}
        self.groups = tuple(groups or (_default_group(name, shape) for name, shape in shapes.items()))
        self._parameters = self._checked(parameters, "parameters")
        self._loss = loss
        self._gradient = gradient
        self._product = hessian_vector_product

    @property
    def parameters(self) -> ParameterVector:
        return self.from_numpy(self._parameters)

    @exclusive()
    def loss(self, parameters: ParameterVector, /) -> float:
        value = float(self._loss(self.to_numpy(parameters)))
        if np.isfinite(value):
            return value
        msg = f"loss(p) returned {value}: there is no curvature at a point where the loss is not finite"
        raise NonFiniteError(msg)

    @exclusive()
    def gradient(self, parameters: ParameterVector, /) -> ParameterVector:
        returned = self._gradient(self.to_numpy(parameters))
        return self._vector(self._checked(returned, "what gradient(p) returned"))

    @exclusive()
    def hessian_vector_product(self, parameters: ParameterVector, vector: ParameterVector, /) -> ParameterVector:
        returned = self._product(self.to_numpy(parameters), self.to_numpy(vector))
        return self._vector(self._checked(returned, "what hessian_vector_product(p, v) returned"))

    def from_numpy(self, arrays: HostArrays, /) -> ParameterVector:
        return self._vector({group.name: np.array(arrays[group.name], dtype=np.float64) for group in self.groups})

    def to_numpy(self, vector: ParameterVector, /) -> Arrays:
        return {name: np.array(array, dtype=np.float64) for name, array in vector.arrays.items()}

    def _vector(self, arrays: Arrays) -> ParameterVector:
        return ParameterVector(self.xp, arrays)

    def _checked(self, arrays: Mapping[str, Any], source: str) -> Arrays:
        """Float64 copies in the order of the groups."""
        if not isinstance(arrays, Mapping):
            msg = f"{source} is a {type(arrays).__name__}, but it has to be a dictionary from group names to arrays"
            raise ModelError(msg)
        names = [group.name for group in self.groups]
        if wrong := arrays.keys() ^ set(names):
            msg = f"{source} and the parameter groups differ in {', '.join(sorted(wrong))}: the groups are {', '.join(names)}"
            raise ModelError(msg)
        return {group.name: _checked_array(arrays[group.name], group, source) for group in self.groups}


def _checked_array(values: Any, group: ParameterGroup, source: str) -> Array:
    if np.iscomplexobj(values):
        msg = f"{source} is complex in {group.name!r}, but the library needs real numbers"
        raise ModelError(msg)
    if np.shape(values) != group.shape:
        msg = f"{source} has shape {np.shape(values)} in {group.name!r}, but the group has shape {group.shape}"
        raise ModelError(msg)
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        msg = f"{source} has NaN or infinite entries in {group.name!r}"
        raise NonFiniteError(msg)
    return array


def _default_group(name: str, shape: tuple[int, ...]) -> ParameterGroup:
    if len(shape) == 2:
        return ParameterGroup(name, shape, "matrix", output_axes=(0,), input_axes=(1,))
    return ParameterGroup(name, shape)


def quadratic(hessian: npt.ArrayLike, point: npt.ArrayLike) -> FunctionOracle:
    r"""Return the oracle of :math:`L(W) = \tfrac12 v^T H v`, where v has the entries of one weight matrix row by row.

    Its gradient is :math:`H v` and its Hessian H, so every number that is measured on it can be checked by hand.

    Parameters
    ----------
    hessian
        The symmetric matrix H, with one row and one column for each entry of W.
    point
        The matrix W of shape (outputs, inputs) where the model is.

    Returns
    -------
    FunctionOracle
        With one parameter group, the matrix ``"weight"``.

    Raises
    ------
    ModelError
        If the Hessian does not fit the matrix.

    Examples
    --------
    >>> import invariant_sharpness as ish
    >>> oracle = quadratic(np.diag([1.0, 2.0]), [[3.0, 4.0]])
    >>> oracle.loss(oracle.parameters)  # (1 * 9 + 2 * 16) / 2
    20.5
    >>> ish.hessian_trace(oracle).value
    3.0
    """
    H, W = np.array(hessian, dtype=np.float64), np.array(point, dtype=np.float64)
    if H.shape != (W.size, W.size):
        msg = f"the Hessian has shape {H.shape}, but a matrix of {W.size} entries has one of shape {(W.size, W.size)}"
        raise ModelError(msg)

    def product(arrays: Mapping[str, Array]) -> Arrays:
        return {"weight": (H @ arrays["weight"].ravel()).reshape(W.shape)}

    def loss(p: Arrays) -> float:
        v = p["weight"].ravel()
        return float(v @ H @ v) / 2

    return FunctionOracle({"weight": W}, loss, product, lambda _, v: product(v))
