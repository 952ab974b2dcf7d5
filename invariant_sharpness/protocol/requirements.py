"""Whether an oracle has a capability, and what to do where it has not.

With how many digits an oracle computes.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from invariant_sharpness.errors import MissingCapabilityError
from invariant_sharpness.protocol.capabilities import CoordinateOracle, ModelPrecisionOracle
from invariant_sharpness.protocol.oracle import CurvatureOracle

Capability = TypeVar("Capability", bound=CurvatureOracle)


def supports(oracle: CurvatureOracle, capability: type[Any]) -> bool:
    """Whether ``oracle`` has the methods of ``capability``."""
    if isinstance(oracle, CoordinateOracle):
        return supports(oracle.base, capability)
    return isinstance(oracle, capability)


def require(oracle: CurvatureOracle, capability: type[Capability], *, metric: str) -> Capability:
    """Return ``oracle`` if it has ``capability``; otherwise raise, saying what is missing.

    Raises
    ------
    MissingCapabilityError
        Names the missing methods and what to do.
    """
    if supports(oracle, capability):
        return cast(Capability, oracle)
    missing = sorted(n for n in dir(capability) if not n.startswith("_") and not hasattr(CurvatureOracle, n))
    msg = (
        f"{metric} needs {', '.join(missing)}, which {type(_innermost(oracle)).__name__} does not have. "
        f"Give the oracle the methods of {capability.__name__}, or take a metric that needs only "
        f"Hessian-vector products, such as hessian_spectral_norm."
    )
    raise MissingCapabilityError(msg)


def _innermost(oracle: CurvatureOracle) -> CurvatureOracle:
    return _innermost(oracle.base) if isinstance(oracle, CoordinateOracle) else oracle


def machine_epsilon(oracle: CurvatureOracle) -> float:
    """Unit of rounding of the model's arithmetic, or else of the least precise group of its vectors.

    They differ for models in half precision, whose vectors are in single precision.
    """
    if isinstance(oracle, CoordinateOracle):
        return machine_epsilon(oracle.base)
    if isinstance(oracle, ModelPrecisionOracle):
        return oracle.model_rounding
    return max(float(oracle.xp.finfo(array.dtype).eps) for array in oracle.parameters.arrays.values())
