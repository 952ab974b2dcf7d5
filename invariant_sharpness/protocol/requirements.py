"""Whether an oracle has a capability, and what to do where it has not."""

from __future__ import annotations

from functools import cache
from inspect import getattr_static
from typing import Any, TypeVar, cast

from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.protocol.capabilities import CoordinateOracle, ModelPrecisionOracle
from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle

Capability = TypeVar("Capability", bound=CurvatureOracle)


def capability(oracle: CurvatureOracle, wanted: type[Capability]) -> Capability | None:
    """Return the oracle as one with the capability, or None if it has not.

    A wrapper can do what the oracle beneath it can. The methods of any other oracle are looked up, and no property is read; where it
    has an attribute ``offers``, the capability has to be among them, too.
    """
    return cast(Capability, oracle) if _offers(innermost(oracle), wanted) else None


def supports(oracle: CurvatureOracle, wanted: type[Any]) -> bool:
    """Whether ``oracle`` has the capability."""
    return capability(oracle, wanted) is not None


def require(oracle: CurvatureOracle, wanted: type[Capability], *, metric: str) -> Capability:
    """Return ``oracle`` if it has the capability; otherwise raise, saying what is missing.

    Raises
    ------
    MissingCapabilityError
        Names the missing methods and what to do.
    """
    found = capability(oracle, wanted)
    if found is not None:
        return found
    missing = sorted(_members(wanted) - _members(CurvatureOracle))
    msg = (
        f"{metric} needs {', '.join(missing)}, which {type(innermost(oracle)).__name__} does not {_verb(oracle)}. "
        f"Give {_giver(oracle)} the methods of {wanted.__name__}, or take a metric that needs only "
        f"Hessian-vector products, such as hessian_spectral_norm."
    )
    raise MissingCapabilityError(msg)


def _verb(oracle: CurvatureOracle) -> str:
    return "offer" if hasattr(innermost(oracle), "offers") else "have"


def _giver(oracle: CurvatureOracle) -> str:
    """Who would have to have the methods: an oracle that says what it offers has them from an engine."""
    return "its engine" if hasattr(innermost(oracle), "offers") else "the oracle"


def innermost(oracle: CurvatureOracle) -> CurvatureOracle:
    """The oracle beneath all coordinates."""
    return innermost(cast(CoordinateOracle, oracle).base) if _has(oracle, CoordinateOracle) else oracle


def machine_epsilon(oracle: CurvatureOracle) -> float:
    """Machine epsilon of the model's arithmetic, or else of the least precise group of its vectors.

    They differ for models in half precision, whose vectors are in single precision.
    """
    base = innermost(oracle)
    found = capability(base, ModelPrecisionOracle)
    if found is not None:
        return found.model_rounding
    return max(float(base.xp.finfo(array.dtype).eps) for array in base.parameters.arrays.values())


def _offers(oracle: CurvatureOracle, wanted: type[Any]) -> bool:
    offered: frozenset[type] | None = getattr(oracle, "offers", None)
    return _has(oracle, wanted) and (offered is None or wanted in offered | {CurvatureOracle})


def _has(oracle: object, wanted: type[Any]) -> bool:
    """``isinstance`` with a protocol would read properties, and ``examples`` of an oracle takes a pass over the data."""
    return all(_has_member(oracle, name) for name in _members(cast(Any, wanted)))


def _has_member(oracle: object, name: str) -> bool:
    found = getattr_static(oracle, name, None) is not None
    return found or (hasattr(type(oracle), "__getattr__") and hasattr(oracle, name))


@cache
def _members(protocol: type[Any]) -> frozenset[str]:
    """The public names that a protocol asks for."""
    protocols = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    return frozenset(name for base in protocols for name in vars(base) if not name.startswith("_"))
