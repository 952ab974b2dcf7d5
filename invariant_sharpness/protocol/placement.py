"""Whether the parameters lie on accelerators, so that what is computed from them alone is computed there."""

from __future__ import annotations

from typing import Any

from array_api_compat import is_numpy_namespace

from invariant_sharpness.parameters.vector import ParameterVector
from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle


def on_accelerators(oracle: CurvatureOracle) -> ParameterVector | None:
    """Return the parameters if each array lies on one accelerator, where its framework puts new arrays, too; None otherwise."""
    if is_numpy_namespace(oracle.xp):
        return None
    parameters = oracle.parameters
    return parameters if all(map(_takes_new_arrays, parameters.arrays.values())) else None


def _takes_new_arrays(array: Any) -> bool:
    """An array of JAX that is committed to a place, or divided among devices, is put there by its oracle alone."""
    device = array.device
    kind = getattr(device, "type", None) or getattr(device, "platform", "cpu")
    return kind != "cpu" and not getattr(array, "committed", False)
