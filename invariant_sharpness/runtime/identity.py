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

_ROUNDING = 1e-5
"""Two means of the same losses in single precision differ by less."""

_COORDINATES = (Scaled, Moved, Restricted, GaussNewton)
"""Wrappers that are told apart by their types, their scales and points, and the point at which a loop is."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The same for the same groups, parameters, loss and gradient, bit by bit.

    Parameters
    ----------
    parameters
        A digest of each group.
    forms
        The dtype and the shape of each group, in words.
    loss
        The mean loss.
    gradient
        A digest of the gradient.
    """

    parameters: Mapping[str, str]
    forms: Mapping[str, str]
    loss: float
    gradient: str

    @classmethod
    def of(cls, oracle: CurvatureOracle) -> Identity:
        """Compute the identity of an oracle. Cost: one loss and one gradient."""
        point = oracle.parameters
        parameters = {name: digest({name: array}) for name, array in oracle.to_numpy(point).items()}
        forms = {name: f"{str(a.dtype).rpartition('.')[-1]} {tuple(a.shape)}" for name, a in point.arrays.items()}
        return cls(parameters, forms, float(oracle.loss(point)), digest(oracle.to_numpy(oracle.gradient(point))))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Identity:
        """Read what :meth:`arrays` made."""
        names = arrays["groups"].tolist()
        parameters, forms = (dict(zip(names, arrays[k].tolist(), strict=True)) for k in ("parameters", "forms"))
        return cls(parameters, forms, float(arrays["loss"]), str(arrays["gradient"]))

    def arrays(self) -> Arrays:
        """Return arrays to be stored."""
        return {
            "groups": np.array(list(self.parameters), dtype=str),
            "parameters": np.array(list(self.parameters.values()), dtype=str),
            "forms": np.array(list(self.forms.values()), dtype=str),
            "loss": np.array(self.loss),
            "gradient": np.array(self.gradient),
        }

    def difference_from(self, written: Identity) -> str:
        """Say in words what is not as it was; the words are empty if all is."""
        difference = self._other_groups(written) or self._other_values(written)
        if difference or (self.loss, self.gradient) == (written.loss, written.gradient):
            return difference
        if self.loss == written.loss:
            return f"it has other data or another loss, with the same mean of {self.loss!r}, but another gradient"
        near = abs(self.loss - written.loss) <= _ROUNDING * abs(written.loss)
        advice = (
            ", which may be rounding: take batch_size, memory_limit, threads and device as they were" if near else ""
        )
        return f"it has other data or another loss, with a mean of {written.loss!r} instead of {self.loss!r}{advice}"

    def _other_groups(self, written: Identity) -> str:
        missing, added = (
            [name for name in one if name not in other]
            for one, other in ((self.forms, written.forms), (written.forms, self.forms))
        )
        if missing or added:
            parts = [f"it lacks {listed(missing)}"] * bool(missing) + [f"it has {listed(added)} besides"] * bool(added)
            return f"among the parameters, {' and '.join(parts)}"
        if list(self.forms) != list(written.forms):
            return f"it has its parameters in another order, {listed(list(written.forms))}"
        changed = [n for n, form in self.forms.items() if form != written.forms[n]]
        of, instead = ([f"{name} of {forms[name]}" for name in changed] for forms in (written.forms, self.forms))
        return f"it has {listed(of)} instead of {listed(instead)}" if changed else ""

    def _other_values(self, written: Identity) -> str:
        changed = [name for name, found in self.parameters.items() if found != written.parameters[name]]
        return f"it has other values of {listed(changed)}" if changed else ""


def listed(names: list[str]) -> str:
    """Return up to three of the names in one line, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
