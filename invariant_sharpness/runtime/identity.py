"""What tells one run from another: parameters, data, coordinates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from invariant_sharpness.coordinates.scaled import Scaled
from invariant_sharpness.protocol import CoordinateOracle, CurvatureOracle

Arrays = Mapping[str, npt.NDArray[Any]]


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
        """Cost: one loss and one gradient."""
        point = oracle.parameters
        parameters = {name: digest({name: array}) for name, array in oracle.to_numpy(point).items()}
        return cls(parameters, float(oracle.loss(point)), digest(oracle.to_numpy(oracle.gradient(point))))

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Identity:
        """From what :meth:`arrays` made."""
        parameters = dict(zip(arrays["groups"].tolist(), arrays["parameters"].tolist(), strict=True))
        return cls(parameters, float(arrays["loss"]), str(arrays["gradient"]))

    def arrays(self) -> Arrays:
        """To be stored."""
        return {
            "groups": np.array(list(self.parameters), dtype=str),
            "parameters": np.array(list(self.parameters.values()), dtype=str),
            "loss": np.array(self.loss),
            "gradient": np.array(self.gradient),
        }

    def difference_from(self, written: Identity) -> str:
        """What is not as it was, in words; empty if all is."""
        if list(self.parameters) != list(written.parameters):
            return f"it has the parameters {', '.join(written.parameters)}, and this one {', '.join(self.parameters)}"
        changed = [name for name, found in self.parameters.items() if found != written.parameters[name]]
        if changed:
            return f"it has other values of {', '.join(changed)}"
        if (self.loss, self.gradient) != (written.loss, written.gradient):
            return f"it has other data or another loss, with a mean of {written.loss!r} instead of {self.loss!r}"
        return ""


def innermost(oracle: CurvatureOracle) -> CurvatureOracle:
    """The oracle beneath all coordinates."""
    return innermost(oracle.base) if isinstance(oracle, CoordinateOracle) else oracle


def wrappers(oracle: CurvatureOracle) -> str:
    """The types of an oracle and of those beneath it: at the same point they may stand for different matrices."""
    name = type(oracle).__name__
    if isinstance(oracle, Scaled):  # a parameter that is zero has the same coordinate in all scales
        name = f"{name} {digest(oracle.to_numpy(oracle.scale))}"
    return f"{name} {wrappers(oracle.base)}" if isinstance(oracle, CoordinateOracle) else name


def digest(arrays: Arrays) -> str:
    """A few characters that differ where the arrays do."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(f"{name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
