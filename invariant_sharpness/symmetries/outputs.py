"""Changes of the outputs that the loss does not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle


@dataclass(frozen=True, slots=True)
class Changed:
    """Some groups of parameters, times a factor, plus a term."""

    names: tuple[str, ...]
    factor: float = 1.0
    term: float = 0.0

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """The changed parameters; those given are not touched."""
        changed = {name: self.factor * parameters[name] + self.term for name in self.names}
        return ParameterVector(parameters.xp, {**parameters.arrays, **changed})


@dataclass(frozen=True, slots=True)
class OutputShift:
    r"""Add the same number to all outputs, :math:`z \to z + a 1`: the softmax does not see it.

    Parameters
    ----------
    oracle
        Of the network, with a cross-entropy loss.
    bias
        Name of the bias of the last layer.
    """

    oracle: CurvatureOracle
    bias: str
    kind = "output_shift"

    def __str__(self) -> str:
        return f"all outputs shifted by {self.bias}"

    def moves(self, _seed: int, /) -> Mapping[str, Changed]:
        """A small and a large shift."""
        return {"shift by 1": Changed((self.bias,), term=1.0), "shift by 64": Changed((self.bias,), term=64.0)}


@dataclass(frozen=True, slots=True)
class OutputScale:
    r"""Multiply all outputs by the same number, :math:`z \to c z` with c > 0: the normalized cross-entropy (20) does not see it.

    Parameters
    ----------
    oracle
        Of the network, with the loss ``"normalized_cross_entropy"``.
    last
        Names of the weight and the bias of the last layer.
    """

    oracle: CurvatureOracle
    last: tuple[str, ...]
    kind = "output_scale"

    def __str__(self) -> str:
        return f"all outputs scaled by {', '.join(self.last)}"

    def moves(self, _seed: int, /) -> Mapping[str, Changed]:
        """A small and a large factor, powers of two."""
        return {"times 4": Changed(self.last, factor=4.0), "times 1024": Changed(self.last, factor=1024.0)}
