r"""The largest value of :math:`d^T H d` in the unit ball of a norm: by all signs where they are few, and else by conditional gradient ascent.

A step looks for the point u of the ball that is furthest along :math:`H d` and goes towards it as far as the quadratic form rises,

.. math:: d \leftarrow d + t\,(u - d), \qquad u = \operatorname{argmax}_{\|u\| \le 1} \langle H d, u \rangle ,

so no step lowers it, and where H is positive semidefinite all steps are full ones: the power method of the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.estimators.bases import unit_vector
from invariant_sharpness.estimators.box_search import flattened
from invariant_sharpness.estimators.conditional_gradient import LossIncrease
from invariant_sharpness.estimators.lanczos import eigenpairs
from invariant_sharpness.estimators.products import GRADIENTS_PER_PRODUCT, numbers_of_products
from invariant_sharpness.parameters.groups import ParameterGroup
from invariant_sharpness.parameters.matrices import in_layout, rows_first
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle
from invariant_sharpness.runtime.progress import track

HostArray = npt.NDArray[np.float64]

BallNorm = Literal["linf", "spectral"]
"""Largest magnitude of an entry, or largest singular value of a layer."""

_MOST_FACES = 2**20
"""So many faces of the box are looked at one by one: all of 16 parameters, up to six of which have negative curvature."""


class QuadraticForm(NamedTuple):
    """A Hessian with the ball in which it is searched, and when to stop."""

    oracle: CurvatureOracle
    norm: BallNorm
    max_iterations: int
    tolerance: float

    def times(self, vector: ParameterVector) -> ParameterVector:
        return self.oracle.hessian_vector_product(self.oracle.parameters, vector)

    def furthest(self, vector: ParameterVector) -> ParameterVector:
        """Return the point of the unit ball that is furthest along a vector."""
        return _FURTHEST[self.norm](self.oracle, vector)


def largest_in_ball(form: QuadraticForm, starts: int, seed: int) -> LossIncrease:
    """Return the best of the ascents from the leading eigenvector and from random signs; zero if nothing is positive.

    Cost: those of the eigenvector, and a product for each step. Memory: as for the eigenvector, and four vectors.
    """
    numbers = track(range(starts), "ascents in a ball", starts, gradients=form.max_iterations * GRADIENTS_PER_PRODUCT)
    found = [_ascent(form, form.furthest(_start(form.oracle, number, seed))) for number in numbers]
    return max((LossIncrease(0.0, 0.0, converged=True), *found), key=lambda increase: increase.value)


def _start(oracle: CurvatureOracle, number: int, seed: int) -> ParameterVector:
    if number:
        return prng.signs(oracle, seed, number - 1)
    return eigenpairs(oracle, largest=1, smallest=0, seed=seed).largest[0].vector


def _ascent(form: QuadraticForm, point: ParameterVector) -> LossIncrease:
    """Go up until the gap, by which the linearized form is larger elsewhere in the ball, is within the tolerance."""
    image, value, gap = form.times(point), 0.0, 0.0
    for _ in range(form.max_iterations):
        value = point.dot(image)
        towards = form.furthest(image) - point
        gap = 2 * towards.dot(image)
        if gap <= form.tolerance * abs(value):
            return LossIncrease(value, gap, converged=True)
        step = form.times(towards)
        curvature = towards.dot(step)
        length = 1.0 if curvature >= 0 else min(1.0, gap / (-2 * curvature))
        point, image = point + towards * length, image + step * length
    return LossIncrease(point.dot(image), gap, converged=False)


def _signs(_: CurvatureOracle, vector: ParameterVector) -> ParameterVector:
    return vector.map(vector.xp.sign)


def _nearest_isometries(oracle: CurvatureOracle, vector: ParameterVector) -> ParameterVector:
    """Replace the singular values of every layer by ones; a group without rows and columns is a matrix of one column."""
    arrays = oracle.to_numpy(vector)
    return oracle.from_numpy({group.name: _isometry(group, arrays[group.name]) for group in oracle.groups})


def _isometry(group: ParameterGroup, values: HostArray) -> HostArray:
    matrix = rows_first(group, values) if group.is_weight else values.reshape(-1, 1)
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    kept = sizes > sizes.max(initial=0.0) * max(matrix.shape) * np.finfo(np.float64).eps
    polar = left[:, kept] @ right[kept]
    return in_layout(group, polar) if group.is_weight else polar.reshape(group.shape)


_FURTHEST: Mapping[BallNorm, Callable[[CurvatureOracle, ParameterVector], ParameterVector]] = MappingProxyType(
    {"linf": _signs, "spectral": _nearest_isometries}
)


def dense_hessian(oracle: CurvatureOracle) -> HostArray:
    """Return all columns of the Hessian. Cost: as many products as parameters."""
    entries = [(group.name, index) for group in oracle.groups for index in range(group.size)]
    return numbers_of_products(
        oracle,
        lambda number: unit_vector(oracle, *entries[number]),
        len(entries),
        "dense Hessian",
        lambda _, column: list(flattened(oracle, column)),
    )


def largest_in_box(hessian: HostArray) -> float | None:
    r"""Return :math:`\max_{|d_i| \le 1} d^T H d`, or None if there are more faces than can be looked at.

    An entry with :math:`H_{ii} \ge 0` is a sign at some maximum, since the form is convex in it. Any other one is a sign or is inside, where the
    derivative vanishes; with the entries I inside and signs J that is :math:`H_{II} d_I = - H_{IJ} d_J`.
    """
    concave = np.flatnonzero(np.diag(hessian) < 0)
    if 2.0 ** (len(hessian) - len(concave)) * 3.0 ** len(concave) > _MOST_FACES:
        return None
    choices = product((False, True), repeat=len(concave))
    return max(0.0, *(_largest_on_faces(hessian, concave[list(inside)]) for inside in choices))


def _largest_on_faces(hessian: HostArray, inside: npt.NDArray[np.intp]) -> float:
    """Return the largest value over all signs of the other entries, with these at their stationary point in the box."""
    outside = np.setdiff1d(np.arange(len(hessian)), inside)
    points = np.empty((len(hessian), 2 ** len(outside)))
    points[outside] = np.array(list(product((-1.0, 1.0), repeat=len(outside)))).T
    if len(inside):
        block = hessian[np.ix_(inside, inside)]
        points[inside] = np.linalg.lstsq(block, -hessian[np.ix_(inside, outside)] @ points[outside], rcond=None)[0]
    feasible = np.abs(points).max(axis=0, initial=0.0) <= 1
    values = np.einsum("in,in->n", points, hessian @ points)
    return float(values[feasible].max(initial=0.0))
