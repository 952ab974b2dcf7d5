"""With how many digits an oracle computes."""

from __future__ import annotations

from invariant_sharpness.protocol import CoordinateOracle, CurvatureOracle, ModelPrecisionOracle


def unit_of_rounding(oracle: CurvatureOracle) -> float:
    """Unit of rounding of the model's arithmetic, or else of the least precise group of its vectors.

    They differ for models in half precision, whose vectors are in single precision.
    """
    if isinstance(oracle, CoordinateOracle):
        return unit_of_rounding(oracle.base)
    if isinstance(oracle, ModelPrecisionOracle):
        return oracle.model_rounding
    return max(float(oracle.xp.finfo(array.dtype).eps) for array in oracle.parameters.arrays.values())
