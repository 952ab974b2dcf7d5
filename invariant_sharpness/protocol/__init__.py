"""The one interface between the metrics and the frameworks that differentiate.

A :class:`CurvatureOracle` is a mean loss as a function of parameters, with its gradient and its Hessian-vector product. Everything
beyond is an optional capability: a small protocol that an oracle may also satisfy. Oracles inherit from nothing here; they
have the methods.
"""

from __future__ import annotations

from invariant_sharpness.parameters.groups import HostArrays, ParameterGroup, Role, Rows
from invariant_sharpness.protocol.capabilities import (
    EVERY_CAPABILITY,
    BlockProductOracle,
    CoordinateOracle,
    DifferenceOracle,
    DoublePrecisionOracle,
    ExampleGradientOracle,
    GaussNewtonOracle,
    HessianOperator,
    HessianOperatorOracle,
    JacobianOracle,
    ModelPrecisionOracle,
    SubsetOracle,
)
from invariant_sharpness.protocol.curvature_oracle import CurvatureOracle
from invariant_sharpness.protocol.description import DescribedOracle, Description
from invariant_sharpness.protocol.diagonal_capabilities import (
    BlockCurvatureOracle,
    GaussNewtonDiagonalOracle,
    LayerUnits,
    NodeCurvatureOracle,
    OneByOneOracle,
    OutputForm,
    OutputFormOracle,
    ResidualDiagonalOracle,
    ResidualProductOracle,
    SampledGaussNewtonOracle,
)
from invariant_sharpness.protocol.requirements import capability, innermost, machine_epsilon, require, supports

__all__ = [
    "EVERY_CAPABILITY",
    "BlockCurvatureOracle",
    "BlockProductOracle",
    "CoordinateOracle",
    "CurvatureOracle",
    "DescribedOracle",
    "Description",
    "DifferenceOracle",
    "DoublePrecisionOracle",
    "ExampleGradientOracle",
    "GaussNewtonDiagonalOracle",
    "GaussNewtonOracle",
    "HessianOperator",
    "HessianOperatorOracle",
    "HostArrays",
    "JacobianOracle",
    "LayerUnits",
    "ModelPrecisionOracle",
    "NodeCurvatureOracle",
    "OneByOneOracle",
    "OutputForm",
    "OutputFormOracle",
    "ParameterGroup",
    "ResidualDiagonalOracle",
    "ResidualProductOracle",
    "Role",
    "Rows",
    "SampledGaussNewtonOracle",
    "SubsetOracle",
    "capability",
    "innermost",
    "machine_epsilon",
    "require",
    "supports",
]
