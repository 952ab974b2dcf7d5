"""Shifts and scales of all outputs, which some losses do not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle


@dataclass(frozen=True, slots=True)
class AffineChange:
    """A transformation: some groups of parameters, times a factor, plus a term.

    Parameters
    ----------
    names
        The names of the groups.
    factor, term
        The factor and the term.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import quadratic
    >>> oracle = quadratic(np.eye(2), [[3.0, 4.0]])
    >>> AffineChange(("weight",), factor=2.0, term=1.0).apply(oracle.parameters)["weight"].tolist()
    [[7.0, 9.0]]
    """

    names: tuple[str, ...]
    factor: float = 1.0
    term: float = 0.0

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the changed parameters; those given are not touched."""
        changed = {name: self.factor * parameters[name] + self.term for name in self.names}
        return ParameterVector(parameters.xp, {**parameters.arrays, **changed})


@dataclass(frozen=True, slots=True)
class OutputShift:
    r"""Add the same number to all outputs, :math:`z \to z + a 1`: the softmax does not see it.

    Parameters
    ----------
    oracle
        The oracle of the network, with a cross-entropy loss.
    bias
        The name of the bias of the last layer.

    Notes
    -----
    Metrics that are invariant to ``"output_shift"`` do not see it.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.eye(3)], [np.array([1.0, 2.0, 3.0])])
    >>> oracle = NetworkOracle(network, np.eye(3), np.array([0, 1, 2]))
    >>> shifted = OutputShift(oracle, "layers.0.bias").transformations(0)["shift by 1"].apply(oracle.parameters)
    >>> shifted["layers.0.bias"].tolist(), bool(np.isclose(oracle.loss(shifted), oracle.loss(oracle.parameters)))
    ([2.0, 3.0, 4.0], True)
    """

    oracle: CurvatureOracle
    bias: str
    kind = "output_shift"

    def __str__(self) -> str:
        return f"all outputs shifted by {self.bias}"

    def transformations(self, _seed: int, /) -> Mapping[str, AffineChange]:
        """Return a small and a large shift."""
        return {f"shift by {term:g}": AffineChange((self.bias,), term=term) for term in (1.0, 64.0)}

    moves = transformations


@dataclass(frozen=True, slots=True)
class OutputScale:
    r"""Multiply all outputs by the same number, :math:`z \to c z` with c > 0: the normalized cross-entropy (20) does not see it.

    Parameters
    ----------
    oracle
        The oracle of the network, with the loss ``"normalized_cross_entropy"``.
    last
        The names of the weight and the bias of the last layer.

    Notes
    -----
    Metrics that are invariant to ``"output_scale"`` do not see it. Source: (20)-(22) of Tsuzuku, Sato and Sugiyama (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> network = ReluNetwork([np.eye(3)], [np.array([1.0, 2.0, 3.0])])
    >>> oracle = NetworkOracle(network, np.eye(3), np.array([0, 1, 2]), loss="normalized_cross_entropy")
    >>> scale = OutputScale(oracle, ("layers.0.weight", "layers.0.bias"))
    >>> scaled = scale.transformations(0)["times 4"].apply(oracle.parameters)
    >>> scaled["layers.0.bias"].tolist(), bool(np.isclose(oracle.loss(scaled), oracle.loss(oracle.parameters)))
    ([4.0, 8.0, 12.0], True)
    """

    oracle: CurvatureOracle
    last: tuple[str, ...]
    kind = "output_scale"

    def __str__(self) -> str:
        return f"all outputs scaled by {', '.join(self.last)}"

    def transformations(self, _seed: int, /) -> Mapping[str, AffineChange]:
        """Return a small and a large factor, powers of two."""
        return {f"times {factor:g}": AffineChange(self.last, factor=factor) for factor in (4.0, 1024.0)}

    moves = transformations
