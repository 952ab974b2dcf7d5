"""What tells one run from another: the parameters, the data and the matrix that is multiplied.

An oracle may be anything with the methods of one: a wrapper of a user's, a part of the data, the difference of two others. It is known
by what it does, so none is refused, and none takes up what another one computed. Coordinates of the library are known by their
type, scale and point, which costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness import prng
from invariant_sharpness.coordinates import GaussNewton, Moved, Restricted, Scaled
from invariant_sharpness.protocol import CurvatureOracle

Arrays = Mapping[str, npt.NDArray[Any]]

_COORDINATES = (Scaled, Moved, Restricted, GaussNewton)
"""Wrappers that are told apart by their types, their scales and points, and the point at which a loop is."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The same for the same groups, parameters, loss and gradient, bit by bit.

    Parameters
    ----------
    parameters
        A digest of each group.
    loss
        The mean loss.
    gradient
        A digest of the gradient.
    """

    parameters: Mapping[str, str]
    loss: float
    gradient: str

    @classmethod
    def of(cls, oracle: CurvatureOracle) -> Identity:
        """Compute the identity of an oracle. Cost: one loss and one gradient."""
        point = oracle.parameters
        parameters = {name: digest({name: array}) for name, array in oracle.to_numpy(point).items()}
        return cls(parameters, float(oracle.loss(point)), digest(oracle.to_numpy(oracle.gradient(point))))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Identity:
        """Read what :meth:`arrays` made."""
        parameters = dict(zip(arrays["groups"].tolist(), arrays["parameters"].tolist(), strict=True))
        return cls(parameters, float(arrays["loss"]), str(arrays["gradient"]))

    def arrays(self) -> Arrays:
        """Return arrays to be stored."""
        return {
            "groups": np.array(list(self.parameters), dtype=str),
            "parameters": np.array(list(self.parameters.values()), dtype=str),
            "loss": np.array(self.loss),
            "gradient": np.array(self.gradient),
        }

    def difference_from(self, written: Identity) -> str:
        """Say in words what is not as it was; the words are empty if all is."""
        if list(self.parameters) != list(written.parameters):
            return f"it has the parameters {', '.join(written.parameters)}, and this one {', '.join(self.parameters)}"
        changed = [name for name, found in self.parameters.items() if found != written.parameters[name]]
        if changed:
            return f"it has other values of {', '.join(changed)}"
        if (self.loss, self.gradient) != (written.loss, written.gradient):
            return f"it has other data or another loss, with a mean of {written.loss!r} instead of {self.loss!r}"
        return ""


def product_digest(oracle: CurvatureOracle) -> str:
    """Return a digest of the product with one random vector, which tells two Hessians apart. Cost: one product."""
    vector = prng.uniform(oracle, 0, 0)
    return digest(oracle.to_numpy(oracle.hessian_vector_product(oracle.parameters, vector)))


def coordinates_and_operator(oracle: CurvatureOracle) -> tuple[str, CurvatureOracle]:
    """Name the library's coordinates around an oracle, and return what is beneath them."""
    words = []
    while type(oracle) in _COORDINATES:
        words.append(type(oracle).__name__)
        if isinstance(oracle, Scaled):  # a parameter that is zero has the same coordinate in all scales
            words.append(digest(oracle.to_numpy(oracle.scale)))
        if isinstance(oracle, Moved):  # a restriction of it does not show where the other groups are
            words.append(digest(oracle.to_numpy(oracle.parameters)))
        oracle = oracle.base  # type: ignore[attr-defined]
    return " ".join(words), oracle


def digest(arrays: Arrays) -> str:
    """Return a few characters that differ where the arrays do."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(f"{name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
