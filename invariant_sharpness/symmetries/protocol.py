"""What a symmetry is: a family of transformations of the parameters that leave the loss as it is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from invariant_sharpness.errors import ArgumentTypeError
from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol import CurvatureOracle


class Transformation(Protocol):
    """One element of a symmetry group, as it acts on the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from invariant_sharpness.symmetries import OutputShift
    >>> from invariant_sharpness_numpy import quadratic
    >>> shift = OutputShift(quadratic(np.eye(2), [[3.0, 4.0]]), "weight").transformations(0)["shift by 1"]
    >>> shift.apply(shift.apply(quadratic(np.eye(2), [[3.0, 4.0]]).parameters))["weight"].tolist()
    [[5.0, 6.0]]
    """

    def apply(self, parameters: ParameterVector, /) -> ParameterVector:
        """Return the transformed parameters; those given are not touched."""
        ...


class Symmetry(Protocol):
    """A family of transformations that leave the loss as it is.

    Whoever has a symmetry of their own writes an object with these two members, and gives it to :func:`invariant_sharpness.certify`.
    ``kind`` is the invariance that a metric must declare if its value shall stay, in the words of
    :data:`invariant_sharpness.symmetries.Invariance`.

    Examples
    --------
    >>> import numpy as np
    >>> import invariant_sharpness as ish
    >>> from invariant_sharpness_numpy import quadratic
    >>> class SignFlip:
    ...     kind = "diagonal"
    ...     def transformations(self, seed):
    ...         return {"sign": self}
    ...     def apply(self, parameters):
    ...         return -parameters
    >>> oracle = quadratic(np.diag([1.0, 2.0]), [[3.0, 4.0]])
    >>> [finding.verdict for finding in ish.certify(oracle, "hessian_trace", symmetries=SignFlip())]
    ['stays']
    """

    @property
    def kind(self) -> str:
        """The invariance of a metric that covers these transformations."""
        ...

    def transformations(self, seed: int, /) -> Mapping[str, Transformation]:
        """Return a few transformations, by a name that says how strong they are, the mildest first."""
        ...


@runtime_checkable
class PlaceableSymmetry(Protocol):
    """A symmetry that names parameters, and may be made before there is an oracle."""

    def on(self, oracle: CurvatureOracle, /) -> Symmetry:
        """Return the symmetry of the network of this oracle."""
        ...


def transformations_of(symmetry: Symmetry, oracle: CurvatureOracle, seed: int) -> Mapping[str, Transformation]:
    """Return a few transformations of the parameters of ``oracle``, by name.

    A symmetry that names parameters is first placed on the oracle. One of version 0.1, with a method ``moves``, is taken with a warning.

    Parameters
    ----------
    symmetry
        The symmetry.
    oracle
        The oracle of the network that has it.
    seed
        The seed of the draws.

    Returns
    -------
    Mapping of str to Transformation
        By a name that says how strong they are, the mildest first.

    Raises
    ------
    ArgumentTypeError
        If the object is no symmetry; says what one is.

    Examples
    --------
    >>> from invariant_sharpness.symmetries import chain_rescalings
    >>> from invariant_sharpness_numpy import NetworkOracle, ReluNetwork
    >>> oracle = NetworkOracle(ReluNetwork.initialize((4, 5, 3), seed=0), [[0.0] * 4], [0])
    >>> (hidden,) = chain_rescalings(oracle.groups)
    >>> list(transformations_of(hidden, oracle, 0))
    ['powers of two', 'any factors', 'factors up to 8192']
    """
    placed: Any = symmetry.on(oracle) if isinstance(symmetry, PlaceableSymmetry) else symmetry
    if hasattr(placed, "transformations"):
        return placed.transformations(seed)
    if hasattr(placed, "moves"):
        warnings.warn(
            f"{type(placed).__name__}.moves(seed) is now transformations(seed); the old name goes in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return placed.moves(seed)
    msg = (
        f"{type(placed).__name__} is no symmetry: give an object with an attribute kind and a method transformations(seed), "
        f"such as UnitRescaling(...), HeadMixing(...), or what find_symmetries(oracle) returns"
    )
    raise ArgumentTypeError(msg)
